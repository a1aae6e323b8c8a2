"""One small run on simulated users with the demo models, made once by the Python API."""

from __future__ import annotations

from typing import Any

import pytest

import recgen
from recgen.runs import Run

DECODE = {"steps": 2, "sampler": "dpm++2m", "guidance_scale": 3}
SMALL: dict[str, Any] = {
    "simulator": {"users": 24, "items": 30, "seed": 0, "interactions_per_user": 24},
    "threads": 1,
    "requests": 3,
    "ranker__settings": {"Verifier": {"hidden_size": 8}},
    "generators": ["stable_diffusion", "ip_adapter"],
    "stable_diffusion": {"decode": DECODE},
    "ip_adapter__decode": DECODE,
    "downstream": {"seeds": 1, "items": 2, "settings": {"epochs": 1}},
}
QUICK = ["epochs=2", "use_gpu=False"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run."""
    return recgen.run("simulated", tmp_path_factory.mktemp("api") / "run", QUICK, **SMALL)
