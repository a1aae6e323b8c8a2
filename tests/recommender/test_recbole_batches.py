"""What RecBole trains on is the same, row by row and draw by draw, when its rows and negatives are taken by arrays."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import BPR
from recbole.sampler import Sampler
from recbole.utils import FeatureSource, FeatureType, init_seed

from ranking_models.trainer import in_wide_steps
from recgen.core.compat import recbole_batches
from recgen.recommender import recbole

USERS, ITEMS = 9, 13


@pytest.fixture
def parts(splits):
    """Users who have met two thirds of the items, so that every draw is made again for some."""
    met = [
        (f"u{user}", f"i{item}", 1.0) for user in range(USERS) for item in range(ITEMS) if (user + item) % 3
    ]
    return splits(met[:-9], met[-9:-5], met[-5:])


def epochs(parts, block, batch: int, negatives: int) -> list[dict[str, list[int]]]:
    """Return every column of every batch of two epochs."""
    keys = {
        "dataset": "toy",
        "data_path": ".",
        "use_gpu": False,
        "train_batch_size": batch,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": negatives},
        "topk": [5],
    }
    train = recbole.loaders(recbole.recbole_config(BPR, keys), parts).train
    init_seed(7, True)
    with block:
        found = [batch.interaction for _ in range(2) for batch in train]
    return [{name: column.tolist() for name, column in columns.items()} for columns in found]


@pytest.mark.parametrize(("batch", "negatives"), [(16, 1), (16, 3), (1, 1), (1000, 2)])
def test_batches_are_those_of_recbole(parts, batch, negatives):
    expected = epochs(parts, nullcontext(), batch, negatives)
    assert epochs(parts, recbole_batches(), batch, negatives) == expected
    met = {
        pair
        for part in (parts.train,)
        for pair in zip(*(part.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True)
    }
    drawn = {
        pair for columns in expected for pair in zip(columns["user_id"], columns["neg_item_id"], strict=True)
    }
    assert drawn and not drawn & met


def test_two_phases_of_a_sampler_know_what_was_met_in_each(parts):
    """A copy of a sampler for another phase has other sets."""
    whole = Sampler(["train", "valid"], [parts.train, parts.valid])
    several, one = np.tile(np.arange(1, USERS + 1), 200), np.full(300, 4)
    for phase, users, num in product(("train", "valid"), (several, one), (1, 3)):
        sampler = whole.set_phase(phase)
        np.random.seed(3)  # RecBole draws by it
        expected = sampler.sample_by_user_ids(users, None, num)
        np.random.seed(3)
        with recbole_batches():
            assert torch.equal(sampler.sample_by_user_ids(users, None, num), expected)


def test_other_indices_are_read_by_recbole():
    rows = Interaction({"a": torch.arange(6), "b": torch.arange(6) / 2})
    with recbole_batches():
        for index in ([4, 1], np.array([4, 1]), torch.tensor([4, 1])):
            assert rows[index]["a"].tolist() == [4, 1] and rows[index]["b"].tolist() == [2.0, 0.5]
        assert rows[torch.arange(6) > 3]["a"].tolist() == [4, 5]
        assert rows[2:4]["a"].tolist() == [2, 3] and rows["b"].tolist() == rows.interaction["b"].tolist()


def test_loaders_draw_as_much_as_those_of_torch(parts):
    """What is drawn after an epoch, by the loader's generator or, where it has none, by torch's own, stays the same."""
    keys = {"dataset": "toy", "data_path": ".", "use_gpu": False, "train_batch_size": 16, "topk": [5]}

    def after(block) -> tuple[int, int]:
        init_seed(7, True)
        data = recbole.loaders(recbole.recbole_config(BPR, keys), parts)
        with block:
            list(data.train)
            list(in_wide_steps(data.valid))
        return [int(torch.randint(2**40, (), generator=each)) for each in (data.train.generator, None)]

    assert after(recbole_batches()) == after(nullcontext())


@pytest.mark.parametrize("joined", [True, False])
def test_columns_of_items_are_joined_only_where_they_are_read(parts, joined):
    ids = torch.arange(ITEMS + 1)
    parts.train.item_feat = Interaction({"item_id": ids, "year": ids + 1900})
    parts.train.set_field_property("year", FeatureType.FLOAT, FeatureSource.ITEM, 1)
    (rows, *_) = epochs(parts, recbole_batches(joined), 16, 1)
    asked = {"user_id", "item_id", "neg_item_id"}
    assert asked <= set(rows) and {"year", "neg_year"} & set(rows) == (
        {"year", "neg_year"} if joined else set()
    )
    (plain, *_) = epochs(parts, recbole_batches(), 16, 1)
    assert all(rows[name] == plain[name] for name in asked)


def test_outside_the_block_recbole_is_itself():
    def patched():
        return AbstractDataLoader.__iter__, Interaction.__getitem__, Sampler.sample_by_key_ids, Dataset.join

    before = patched()
    with recbole_batches(joined=False):
        assert all(now is not then for now, then in zip(patched(), before, strict=True))
    assert patched() == before
