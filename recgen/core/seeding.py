"""Randomness that depends on what is drawn, never on when.

Every random number in recgen comes from a generator seeded by (run seed, stage, user, item), so that a result
does not change with the batch size, the number of workers or what ran before.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(run_seed: int, stage: str, user: str = "", item: str = "") -> int:
    """Return a seed in [0, 2**63) for one draw, the same on every machine and in every process."""
    key = "\x1f".join((str(run_seed), stage, user, item)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def numpy_rng(run_seed: int, stage: str, user: str = "", item: str = "") -> np.random.Generator:
    """Return a NumPy generator for one draw."""
    return np.random.default_rng(seed_for(run_seed, stage, user, item))


def torch_generator(run_seed: int, stage: str, user: str = "", item: str = "") -> torch.Generator:
    """Return a CPU torch generator for one draw."""
    import torch

    return torch.Generator().manual_seed(seed_for(run_seed, stage, user, item))
