"""Works off what the service could not show: draws it, asks the gate, and puts up what is accepted (`recgen work`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.progress import show
from recgen.core.provenance import recipe_hash
from recgen.data.types import Request
from recgen.runs import Run
from recgen.serving.store import PATH, Store
from recgen.stages.creative_batch import CreativeBatch
from recgen.stages.gate import decided
from recgen.stages.generate import drawn_alone, fitted, keep

_PAUSE = 1.0  # seconds between looks at an empty queue
FOLDER = "serving"


def work(folder: str, once: bool = False, at_most: int | None = None) -> str:
    """Draw what waits in the queue, a batch at a time, and return a line that says how much.

    Parameters
    ----------
    folder
        The run's folder, which has been served.
    once
        Whether to end when nothing waits; else it looks again every second until interrupted.
    at_most
        How many pairs are drawn; None for all.

    Raises
    ------
    UserError
        If the run has not been served, or its generator is not fitted.
    """
    if not (Path(folder) / PATH).is_file():
        raise UserError(
            f"--run {folder}", found=f"no {PATH}", expected="a run that has been served", todo="Serve it first: recgen serve."
        )  # fmt: skip
    run, store = Run(folder), Store(Path(folder))
    name = store.fact("generator") or ""
    drawer, drawn, accepted = None, 0, 0
    run.context.prepare_torch()
    with run.context.workspace.sharing():
        while at_most is None or drawn < at_most:
            size = run.context.settings.shard_size
            pairs = store.take(size if at_most is None else min(size, at_most - drawn))
            if not pairs:
                if once:
                    break
                time.sleep(_PAUSE)
                continue
            drawer = drawer or fitted(run.context, name)
            accepted += _draw(run, store, drawer, name, pairs)
            drawn += len(pairs)
            show(f"work: creatives of {name}", drawn, drawn + store.waiting().get("waiting", 0))
    store.close()
    return f"{folder}: {drawn:,} drawn, {accepted:,} of them accepted and put up"


def _draw(run: Run, store: Store, drawer: Any, name: str, pairs: Sequence[tuple[str, str]]) -> int:
    """Draw some pairs, put up those that the gate accepts, and return how many these are."""
    context = run.context
    requests = [run.request_for(user, item) for user, item in pairs]
    rows, embeddings = keep(context, name, drawn_alone(context, drawer, name, requests), FOLDER)
    shown = _accepted(run, name, requests, rows, embeddings)
    made = [
        (str(row.user_id), str(row.item_id), str(row.path), recipe_hash(str(row.recipe)))
        for row in rows[shown].itertuples()
    ]
    refused = rows.loc[~shown, ["user_id", "item_id"]].itertuples(index=False, name=None)
    store.drawn(made, list(refused))
    return len(made)


def _accepted(
    run: Run, name: str, requests: Sequence[Request], rows: pd.DataFrame, embeddings: np.ndarray
) -> np.ndarray:
    """Return which creatives the run's gate accepts, bool ``[n]``; without a gate all."""
    context = run.context
    if context.settings.gate is None:
        return np.ones(len(rows), dtype=bool)
    paths = [context.folder / path for path in rows["path"]]
    items = np.array([context.data.item_rows[each.item_id] for each in requests], dtype=np.int64)
    judged = [encoder.files(paths) for encoder in context.judge_encoders] or [embeddings]
    users, tokens = [each.user_id for each in requests], [each.item_id for each in requests]
    batch = CreativeBatch(name, users, tokens, [[] for _ in users], items, paths, embeddings, judged)
    return decided(context, batch)["accepted"].to_numpy(dtype=bool)
