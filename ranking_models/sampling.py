"""The reference implementation's training batches: users drawn uniformly (MICRO specification 4.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recgen.core.seeding import numpy_rng


class UserUniformBatches:
    """An epoch of batches of users, drawn uniformly among those with training items, not by how active they are.

    A batch is B distinct users (with replacement if there are fewer than B), one uniform training item of each and one
    uniform item outside the user's training items; there are ``n_train // B + 1`` batches.

    Parameters
    ----------
    train_data
        RecBole's pairwise training loader; its batch size and data are used.
    seed, epoch
        What the draws depend on.
    """

    def __init__(self, train_data: Any, seed: int, epoch: int) -> None:
        dataset = train_data._dataset
        self.batch_size = train_data.step
        self.fields = dataset.uid_field, dataset.iid_field, train_data.neg_item_id
        self.n_items = dataset.item_num
        self.n_train = len(dataset)
        self.shuffle = True
        matrix = dataset.inter_matrix(form="csr")
        matrix.sum_duplicates()
        self.starts, self.items = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        self.counts = np.diff(self.starts)
        self.users = np.flatnonzero(self.counts)
        # user and item in one number, ascending, so that membership is a binary search
        self.pairs = np.repeat(np.arange(len(self.counts)), self.counts) * self.n_items + self.items
        self.rng = numpy_rng(seed, f"user-uniform epoch {epoch}")

    def __len__(self) -> int:
        return self.n_train // self.batch_size + 1

    def __iter__(self) -> Iterator[Interaction]:
        for _ in range(len(self)):
            users = self.rng.choice(self.users, self.batch_size, replace=len(self.users) < self.batch_size)
            positives = self.items[self.starts[users] + self.rng.integers(0, self.counts[users])]
            columns = users, positives, self._negatives(users)
            yield Interaction(
                {name: torch.from_numpy(ids) for name, ids in zip(self.fields, columns, strict=True)}
            )

    def _negatives(self, users: np.ndarray) -> np.ndarray:
        negatives = self.rng.integers(1, self.n_items, len(users))
        again = np.flatnonzero(self._interacted(users, negatives))
        while len(again):
            negatives[again] = self.rng.integers(1, self.n_items, len(again))
            again = again[self._interacted(users[again], negatives[again])]
        return negatives

    def _interacted(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        keys = users * self.n_items + items
        return self.pairs[np.searchsorted(self.pairs, keys).clip(max=len(self.pairs) - 1)] == keys
