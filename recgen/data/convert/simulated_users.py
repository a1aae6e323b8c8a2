"""Users made up for a catalogue of images that has no log: each has a taste in what an image encoder sees, and noise.

A user's taste is a standard normal point over the `DIMENSIONS` leading directions of the catalogue's own embeddings (the demo
CLIP model's), each scaled to variance 1. A user meets `MET` items at random and likes one with probability
sigmoid(`STRENGTH` <taste, image> / sqrt(DIMENSIONS) - `RESERVE`): a logistic choice, noise and all. Rankers that see
images can therefore learn these users; what is found on them says how the programs work and nothing about people.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import expit

from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.convert.log import Log
from recgen.data.images import BadImageError, read_image

DIMENSIONS, MET, STRENGTH, RESERVE = 8, 80, 3.0, 0.5
LIKED, DISLIKED = "5", "1"
FIRST_TIMESTAMP, SECONDS_BETWEEN = 1_600_000_000, 3_600
NOTE = "simulated: each has a taste in what the demo CLIP model sees in an image, and likes by a logistic choice with noise"

_BATCH = 256


def draw_log(log: Log, images: dict[str, Path], users: int, seed: int) -> None:
    """Add the encounters of `users` simulated users, rated `LIKED` or `DISLIKED`.

    Parameters
    ----------
    log
        Takes the interactions.
    images
        The image of each item by token; unreadable ones are never met.
    users, seed
        How many users; each follows from the seed, its own token and the catalogue.

    Raises
    ------
    UserError
        When fewer than `MET` images can be read.
    """
    items, embeddings = _embed(images)
    if len(items) < MET:
        raise UserError("--simulate-users", found=f"{len(items)} readable images", expected=f"at least {MET}")
    seen = _directions(embeddings)
    for number in range(1, users + 1):
        user = f"simulated{number}"
        rng = numpy_rng(seed, "simulated user of a table", user)
        met = rng.choice(len(items), MET, replace=False)
        utility = STRENGTH * seen[met] @ rng.standard_normal(DIMENSIONS) / np.sqrt(DIMENSIONS) - RESERVE
        liked = rng.random(MET) < expit(utility)
        for turn, (row, like) in enumerate(zip(met, liked, strict=True)):
            time = FIRST_TIMESTAMP + SECONDS_BETWEEN * turn
            log.add(user, items[row], LIKED if like else DISLIKED, str(time))


def _embed(images: dict[str, Path]) -> tuple[list[str], np.ndarray]:
    """Return the readable images' tokens and embeddings, float ``[n, D]``."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    from recgen.features.encoders import load_encoder

    encoder, items, parts = load_encoder("demo-clip"), [], []
    tokens = sorted(images)
    for start in range(0, len(tokens), _BATCH):
        opened = []
        for token in tokens[start : start + _BATCH]:
            try:
                opened.append(read_image(images[token]))
                items.append(token)
            except BadImageError:
                continue
        if opened:
            parts.append(encoder.images(opened))
    return items, np.concatenate(parts) if parts else np.empty((0, 0))


def _directions(embeddings: np.ndarray) -> np.ndarray:
    """Return the catalogue along its leading directions, each of variance 1, float64 ``[n, DIMENSIONS]``."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :DIMENSIONS] * np.sqrt(len(left))
