"""Works off what the service could not show: draws it, asks the gate, and puts up what is accepted (`recgen work`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.progress import show
from recgen.core.provenance import recipe_hash
from recgen.data.types import Request
from recgen.runs import Run
from recgen.serving.publish import source
from recgen.serving.store import Store, served
from recgen.stages.creative_batch import CreativeBatch
from recgen.stages.gate import decided
from recgen.stages.generate import Drawer, keep

_PAUSE = 1.0  # seconds between looks at an empty queue
FOLDER = "serving"


def work(folder: str, once: bool = False, at_most: int | None = None, database: str | None = None) -> str:
    """Draw what waits in the queue, a batch at a time, and return a line that says how much.

    Parameters
    ----------
    folder
        The run's folder, which has been served.
    once
        Whether to end when nothing waits; else it looks again every second until interrupted.
    at_most
        How many pairs are drawn; None for all.
    database
        Where the queue is, see `recgen.serving.store.Store`.

    Raises
    ------
    UserError
        If the run has not been served, has been run otherwise since, or its generator is not fitted.
    """
    store, run = served(Path(folder), database), Run(folder)
    drawer, drawn, accepted = Drawer(run.context, _published(run, store)), 0, 0
    run.context.prepare_torch()
    with run.context.workspace.sharing():
        while at_most is None or drawn < at_most:
            if drawer.name != (name := _published(run, store)):
                drawer = Drawer(run.context, name)
            size = run.context.settings.shard_size
            pairs = store.take(size if at_most is None else min(size, at_most - drawn))
            if not pairs:
                if once:
                    break
                time.sleep(_PAUSE)
                continue
            try:
                accepted += _draw(run, store, drawer, pairs)
            except KeyboardInterrupt:
                store.give_back(pairs)
                raise
            drawn += len(pairs)
            show(f"work: creatives of {name}", drawn, drawn + store.waiting().get("waiting", 0))
    store.close()
    return f"{folder}: {drawn:,} drawn, {accepted:,} of them accepted and put up"


def _published(run: Run, store: Store) -> str:
    """Return the generator whose creatives the service shows, after a check that it draws as it did when they were published."""
    name = store.fact("generator") or ""
    if name not in run.generators or store.fact("source") != source(run.context, name):
        raise UserError(
            f"--run {run.folder}",
            found=f"creatives of {name or 'no generator'} published before the run was run otherwise",
            expected="the run as it is served",
            todo="Serve it again: recgen serve.",
        )
    return name


def _draw(run: Run, store: Store, drawer: Drawer, pairs: Sequence[tuple[str, str]]) -> int:
    """Draw some pairs, put up those that the gate accepts, and return how many these are."""
    context, name = run.context, drawer.name
    requests = [run.request_for(user, item) for user, item in pairs]
    rows, embeddings = keep(context, name, drawer.draw(requests), FOLDER)
    shown = _accepted(run, name, requests, rows, embeddings)
    made = [
        (str(row.user_id), str(row.item_id), str(row.path), recipe_hash(str(row.recipe)))
        for row in rows[shown].itertuples()
    ]
    refused = rows.loc[~shown, ["user_id", "item_id"]].itertuples(index=False, name=None)
    return len(made) if store.drawn(made, list(refused), source(context, name)) else 0


def _accepted(
    run: Run, name: str, requests: Sequence[Request], rows: pd.DataFrame, embeddings: np.ndarray
) -> np.ndarray:
    """Return which creatives the run's gate accepts, bool ``[n]``; without a gate all."""
    context = run.context
    if context.settings.gate is None:
        return np.ones(len(rows), dtype=bool)
    paths = [context.folder / path for path in rows["path"]]
    items = np.array([context.data.item_rows[each.item_id] for each in requests], dtype=np.int64)
    judged = [encoder.files(paths) for encoder in context.models.judge_encoders] or [embeddings]
    users, tokens = [each.user_id for each in requests], [each.item_id for each in requests]
    batch = CreativeBatch(name, users, tokens, [[] for _ in users], items, paths, embeddings, judged)
    return decided(context, batch)["accepted"].to_numpy(dtype=bool)
