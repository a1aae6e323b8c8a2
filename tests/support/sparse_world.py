"""A world of few interactions in which features tell what users like, and how well a model ranks in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from small_dataset import Built, write_features

from recgen.recommender.baselines import baselines
from recgen.recommender.recbole import DatasetSplits

USERS, ITEMS, KINDS, DIM = 300, 400, 20, 16


def write_world(folder: Path, per_user: int, shuffled: bool) -> dict[str, Any]:
    """Write ITEMS items of KINDS kinds, of which a user likes two, and popular items more; return the keys that read them.

    Features show an item's kind; shuffled, they are another item's.
    """
    rng = np.random.default_rng(7)
    (folder / "tiny").mkdir(parents=True)
    kinds, popular = rng.integers(0, KINDS, ITEMS), rng.pareto(3.0, ITEMS) + 0.3
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(USERS):
        likes = np.isin(kinds, rng.choice(KINDS, 2, replace=False))
        weights = popular * np.where(likes, 25.0, 1.0)
        for turn, item in enumerate(rng.choice(ITEMS, per_user, replace=False, p=weights / weights.sum())):
            lines.append(f"u{user}\ti{item}\t{turn}")
    (folder / "tiny/tiny.inter").write_text("\n".join(lines))
    centres = rng.normal(size=(KINDS, DIM))
    for modality in ("image", "text"):
        rows = centres[kinds] + 0.4 * rng.normal(size=(ITEMS, DIM))
        order = rng.permutation(ITEMS)
        tokens = [f"i{item}" for item in (order if shuffled else range(ITEMS))]
        write_features(folder / f"{modality}.safetensors", tokens, rows)
    return {
        "data_path": str(folder),
        "item_features": {m: str(folder / f"{m}.safetensors") for m in ("image", "text")},
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "show_progress": False,
        "use_gpu": False,
    }


def fitted(
    folder: Path, model: str, settings: dict[str, Any], per_user: int = 7, shuffled: bool = False
) -> tuple[Built, float]:
    """Return a trained model and its Recall@10 on the test part."""
    built = Built(model, {**write_world(folder, per_user, shuffled), **settings})
    trainer = built.trainer()
    trainer.fit(built.train, built.valid, saved=False, verbose=False)
    return built, trainer.evaluate(built.test, load_best_model=False)["recall@10"]


def popularity_recall(built: Built) -> float:
    """Return the Recall@10 of a ranking by popularity on the same candidates."""
    parts = DatasetSplits(built.dataset, built.train._dataset, built.valid._dataset, built.test._dataset)
    return baselines(parts)["popularity"]["recall@10"]
