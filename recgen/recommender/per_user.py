"""Recall@k and NDCG@k user by user, where RecBole's evaluator returns their means only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ranked_exactly(keys: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Return the RecBole keys under which `evaluate_per_user` can measure at k, whatever else `keys` measure."""
    return {
        "metrics": [*dict.fromkeys([*keys["metrics"], "Recall", "NDCG"])],
        "topk": sorted({*np.atleast_1d(keys["topk"]).tolist(), k}),
        "metric_decimal_place": 12,
    }


class _KeepsRankings:
    """RecBole's evaluator, which also keeps what it was given: the hits of every user's first ranks."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator, self.rows = evaluator, np.zeros((0, 0))

    def evaluate(self, struct: Any) -> Any:
        self.rows = struct.get("rec.topk").cpu().numpy()
        return self.evaluator.evaluate(struct)


def evaluate_per_user(trainer: Any, loader: Any, k: int) -> dict[str, NDArray[Any]]:
    """Evaluate a trainer's model with full ranking and return what each user's ranking is worth.

    Parameters
    ----------
    trainer
        RecBole's trainer, whose ``topk`` reaches k.
    loader
        RecBole's loader of an evaluation that ranks every item.
    k
        The cutoff.

    Returns
    -------
    dict
        ``user`` (RecBole's ids, int64 ``[U]``), ``recall@k`` and ``ndcg@k`` (float64 ``[U]``), whose means are RecBole's.
    """
    keeper = _KeepsRankings(trainer.evaluator)
    trainer.evaluator = keeper
    try:
        trainer.evaluate(loader, load_best_model=False, show_progress=False)
    finally:
        trainer.evaluator = keeper.evaluator
    hits, relevant = keeper.rows[:, :k].astype(np.float64), keeper.rows[:, -1].astype(np.int64)
    gain = 1 / np.log2(np.arange(k) + 2.0)
    best = np.cumsum(gain)[np.minimum(relevant, k) - 1]
    return {
        "user": np.asarray(loader.uid_list, dtype=np.int64),
        f"recall@{k}": hits.sum(axis=1) / relevant,
        f"ndcg@{k}": hits @ gain / best,
    }
