"""RecBole data sets of a few rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recgen.recommender.recbole import DatasetSplits, recbole_config

Rows = Sequence[tuple[str, str, float]]


@pytest.fixture
def splits(tmp_path: Path) -> Callable[..., DatasetSplits]:
    """Make split data from rows (user, item, label) of its parts."""

    def make(train: Rows, valid: Rows = (), test: Rows = ()) -> DatasetSplits:
        from recbole.data import create_dataset
        from recbole.model.general_recommender import BPR

        (tmp_path / "toy").mkdir(exist_ok=True)
        lines = ["\t".join(map(str, row)) for row in (*train, *valid, *test)]
        text = "\n".join(["user_id:token\titem_id:token\tlabel:float", *lines])
        (tmp_path / "toy" / "toy.inter").write_text(text)
        keys: dict[str, Any] = {
            "dataset": "toy",
            "data_path": str(tmp_path),
            "load_col": {"inter": ["user_id", "item_id", "label"]},
            "use_gpu": False,
        }
        whole = create_dataset(recbole_config(BPR, keys))
        whole._change_feat_format()  # to tensors, as before every split
        ends = np.cumsum([0, len(train), len(valid), len(test)])
        parts = [whole.copy(whole.inter_feat[np.arange(a, b)]) for a, b in itertools.pairwise(ends)]
        return DatasetSplits(whole, *parts)

    return make
