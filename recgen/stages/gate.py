"""The gate stage: which of a generator's creatives may be shown; see `recgen.metrics.gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from recgen.config.gate import Gate
from recgen.core.io import write_parquet
from recgen.data.images import BadImageError, read_image
from recgen.features import safety
from recgen.features.tagger import phrase_probabilities
from recgen.features.vocabulary import read_vocabulary, vocabulary_file
from recgen.metrics import gate as metrics
from recgen.pipeline.context import RunContext
from recgen.pipeline.gate import safety_checker
from recgen.stages.creative_batch import CreativeBatch, load
from recgen.stages.ranker import members, reward_model

FLAT = 2
"""Levels of 256 that a single colour may vary by, as compression leaves it."""
BLOCK = 64  # images looked at together: bounds memory


def judge(run: RunContext, name: str) -> list[Path]:
    """Decide about one generator's creatives and write gate/<name>.parquet.

    Columns: user_id, item_id, path, sound, unsafe, attributes, text, image, gain, verdict (see `recgen.metrics.gate.decide`) and
    accepted (bool).
    """
    path = run.folder / f"gate/{name}.parquet"
    write_parquet(path, decided(run, load(run, name)))
    return [path]


def decided(run: RunContext, made: CreativeBatch) -> pd.DataFrame:
    """Return what the gate finds of creatives and what it decides, in their order; columns as in `judge`."""
    gate = run.settings.gate
    assert gate is not None
    table = pd.DataFrame({
        "user_id": made.users, "item_id": made.items, "path": [str(path.relative_to(run.folder)) for path in made.paths]
    })  # fmt: skip
    found = {**_looked_at(run, made), **_kept(run, made, gate), "gain": predicted_gain(run, made, gate)}
    table = table.assign(**found)
    table["verdict"] = metrics.decide(table, gate)
    table["accepted"] = table["verdict"] == metrics.ACCEPTED
    return table


def accepted(run: RunContext, name: str) -> np.ndarray:
    """Return which of a generator's creatives may be shown, bool ``[n]`` in the order of `recgen.stages.generate.creatives`."""
    return pd.read_parquet(run.folder / f"gate/{name}.parquet", columns=["accepted"])["accepted"].to_numpy()


def _looked_at(run: RunContext, made: CreativeBatch) -> dict[str, Any]:
    """Open every file: is it an image of more than one colour, and is it safe?"""
    name = safety_checker(run, made.name)
    check = None if name is None else safety.checker(name, f"{run.config.source}: recgen.gate.safety")
    sound = np.isfinite(made.embeddings).all(axis=1)
    unsafe = np.full(len(made.paths), np.nan)
    for start in range(0, len(made.paths), BLOCK):
        images = {
            row: image
            for row, path in enumerate(made.paths[start : start + BLOCK], start)
            if (image := sound_image(path)) is not None
        }
        opened = np.array(sorted(images), dtype=np.int64)
        sound[start : start + BLOCK] &= np.isin(np.arange(start, min(start + BLOCK, len(sound))), opened)
        if check is not None and len(opened):
            unsafe[opened] = check([images[row] for row in opened.tolist()])
    return {"sound": sound, "unsafe": unsafe}


def sound_image(path: Path) -> Image.Image | None:
    """Return an image (RGB); None where the file is none or is of a single colour."""
    try:
        image = read_image(path)
    except BadImageError:
        return None
    flat = int(np.ptp(np.asarray(image), axis=(0, 1)).max()) <= FLAT
    return None if flat else image


def _kept(run: RunContext, made: CreativeBatch, gate: Gate) -> dict[str, Any]:
    """Ask of embeddings whether the creatives still show their items."""
    data = run.data
    places = {
        name: np.full(len(made.rows), np.nan)
        if asked is None
        else metrics.place(made.embeddings, catalogue, made.rows)
        for name, asked, catalogue in (
            ("text", gate.text, data.text_features),
            ("image", gate.image, data.image_features),
        )
    }
    return {"attributes": _attributes(run, made, gate), **places}


def _attributes(run: RunContext, made: CreativeBatch, gate: Gate) -> np.ndarray:
    """Return how far creatives and the items' own images agree on what they show: the least overlap of all content groups."""
    vocabulary = read_vocabulary(vocabulary_file(run.settings.tagger, run.settings.encoder))
    groups = [group for name, group in vocabulary.groups.items() if name not in vocabulary.style]
    if gate.attributes is None or not groups:
        return np.full(len(made.rows), np.nan)
    own = run.data.image_features[made.rows]
    scale = run.models.encoder.logit_scale
    overlaps = [
        metrics.overlap(*(phrase_probabilities(rows, group, run.models.encoder, scale) for rows in (made.embeddings, own)))
        for group in groups
    ]  # fmt: skip
    return np.min(np.stack(overlaps), axis=0)


def predicted_gain(run: RunContext, made: CreativeBatch, gate: Gate) -> np.ndarray:
    """Return the smallest gain in score that any of the models predicts, ``[n]``; NaN where none is asked."""
    gains = [
        _score_gain(run, made, role, member)
        for role in gate.models
        for member in range(members(run, run.resolve_role(role)))
    ]
    return metrics.pessimistic(gains) if gains else np.full(len(made.rows), np.nan)


def _score_gain(run: RunContext, made: CreativeBatch, role: str, member: int) -> np.ndarray:
    ranker = reward_model(run, role, member)
    seen = made.judged[member] if run.resolve_role(role) == "judge" else made.embeddings
    gain = ranker.score(made.users, made.items, seen) - ranker.score_original(made.users, made.items)
    return gain.cpu().numpy().astype(np.float64)
