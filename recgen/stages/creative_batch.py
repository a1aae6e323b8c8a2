"""One generator's creatives as the evaluate stage measures them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recgen.pipeline.context import RunContext
from recgen.stages.generate import creatives


@dataclass(frozen=True)
class CreativeBatch:
    """One generator's creatives, row by row in the order of the requests.

    Attributes
    ----------
    name
        The generator's or the control's.
    users, items
        Tokens ``[n]``.
    histories
        For each creative the catalogue rows of its user's liked items that have an image.
    rows
        int64 ``[n]``, the catalogue row of each item.
    paths
        The creatives' files.
    embeddings
        float32 ``[n, D]``, raw CLIP image embeddings.
    judged
        For each judge, raw image embeddings by its encoder, float32 ``[n, D']``.
    """

    name: str
    users: list[str]
    items: list[str]
    histories: list[list[int]]
    rows: np.ndarray
    paths: list[Path]
    embeddings: np.ndarray
    judged: list[np.ndarray]


def load(run: RunContext, name: str) -> CreativeBatch:
    """Read one generator's creatives."""
    chosen, embeddings = creatives(run, name)
    histories = {(request.user_id, request.item_id): request.history for request in run.requests}
    rows, data = run.data.item_rows, run.data
    pairs = list(zip(chosen["user_id"], chosen["item_id"], strict=True))
    seen = [[rows[item] for item in histories[pair] if data.images[rows[item]] is not None] for pair in pairs]
    items = np.array([rows[item] for _, item in pairs], dtype=np.int64)
    paths = [run.folder / path for path in chosen["path"]]
    judged = [encoder.files(paths) for encoder in run.models.judge_encoders] or [embeddings]
    return CreativeBatch(
        name, chosen["user_id"].tolist(), chosen["item_id"].tolist(), seen, items, paths, embeddings, judged
    )
