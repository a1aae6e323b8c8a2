"""The features stage: every item's image and text through the run's encoder, once, in shards that survive a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from recgen.core.io import read_features, write_features
from recgen.core.progress import show
from recgen.pipeline.context import RunContext

SHARD = 4_096  # images or texts a kill can cost

T = TypeVar("T")


def compute(run: RunContext) -> list[Path]:
    """Run the stage and return what it wrote: features/{image,text}.safetensors and their ids.

    Embeddings are raw, float32 ``[n, D]``; items without an image or without a text have no row.
    """
    items = run.items
    seen, told = items[items["image"].notna()], items[items["text"] != ""]
    files = [run.folder / path for path in seen["image"]]
    images = _encoded(run, "image", files, lambda paths: run.encoder.files(paths))
    texts = _encoded(run, "text", told["text"].tolist(), lambda sentences: run.encoder.texts(sentences))
    folder = run.folder / "features"
    write_features(folder / "image.safetensors", images, seen["item_id"].tolist())
    write_features(folder / "text.safetensors", texts, told["item_id"].tolist())
    shutil.rmtree(folder / "shards", ignore_errors=True)
    return [
        folder / f"{kind}.{ending}" for kind in ("image", "text") for ending in ("safetensors", "ids.txt")
    ]


def _encoded(
    run: RunContext, kind: str, values: list[T], encode: Callable[[Sequence[T]], np.ndarray]
) -> np.ndarray:
    """Encode shard by shard, skipping the shards an interrupted run has left."""
    rows = [np.empty((0, run.encoder.dim), dtype=np.float32)]
    for start in range(0, len(values), SHARD):
        path = run.folder / f"features/shards/{kind}.{start}.safetensors"
        if not path.exists():
            write_features(path, encode(values[start : start + SHARD]))
            show(f"features: {kind}s", min(start + SHARD, len(values)), len(values))
        rows.append(read_features(path))
    return np.concatenate(rows)
