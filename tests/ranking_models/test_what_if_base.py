"""Ranks and checks that every what-if scorer shares, on a table of scores."""

from __future__ import annotations

import pytest
import torch

from ranking_models.what_if import base
from recgen.core.errors import UserError


class Catalogue:
    """Three users and five items, padding included; user 1 met item 2."""

    n_users, n_items, device = 3, 5, "cpu"

    def features(self, modality: str) -> torch.Tensor:
        return torch.zeros(self.n_items, 2)

    def history(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        place = torch.nonzero(users == 1)[:, 0]
        return place, torch.full_like(place, 2)


class Table(base.WhatIf):
    """Scores from a table; an image adds the sum of its numbers to its item's."""

    scores = torch.tensor([[9.0] * 5, [9.0, 3.0, 8.0, 3.0, 1.0], [9.0, 1.0, 2.0, 3.0, 4.0]])

    def __init__(self) -> None:
        super().__init__(Catalogue())
        self.batches: list[int] = []

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(users))
        return self.scores[users]

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self.scores[users, items] + embeddings.sum(1)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._count_above(self._all_scores(users), self._score(users, items, embeddings), users, items)


USERS, ITEMS = torch.tensor([1, 1, 1, 2, 2]), torch.tensor([1, 4, 2, 1, 4])


@pytest.mark.parametrize("cells", [1 << 22, 10, 1])
def test_ranks_leave_out_padding_and_history_and_ties_are_in_the_items_favour(monkeypatch, cells):
    monkeypatch.setattr(base, "CELLS_PER_CHUNK", cells)
    table = Table()
    assert table.score_original(USERS, ITEMS).tolist() == [3, 1, 8, 1, 4]
    assert table.rank_original(USERS, ITEMS).tolist() == [0, 2, 0, 3, 0]
    raised = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-7.0, 1.0], [1.5, 1.0], [0.0, -4.0]])
    assert table.score(USERS, ITEMS, raised).tolist() == [3, 3, 2, 3.5, 0]
    assert table.rank(USERS, ITEMS, raised).tolist() == [0, 0, 2, 1, 3]
    assert max(table.batches) == min(max(cells // 5, 1), 5), "no more cells at once"


def test_scores_of_all_items_but_padding():
    table, inf = Table(), float("inf")
    assert table.score_all(torch.tensor([2, 1])).tolist() == [[-inf, 1, 2, 3, 4], [-inf, 3, 8, 3, 1]]
    nobody = USERS[:0]
    assert table.score_all(nobody).shape == (0, 5)
    assert table.rank_original(nobody, nobody).dtype == torch.int64
    assert table.score(nobody, nobody, torch.zeros(0, 2)).shape == (0,)
    assert table.differentiable(USERS, ITEMS) is None


@pytest.mark.parametrize(
    "users, items, images, message",
    [
        ([1, 3, 0], [1, 1, 1], torch.zeros(3, 2), "user id: found 3; expected a RecBole id from 1 to 2"),
        ([1, 1, 1], [4, 0, 5], torch.zeros(3, 2), "item id: found 0; expected a RecBole id from 1 to 4"),
        ([1], [5], torch.zeros(1, 2), "item id: found 5"),
        ([1], [1], torch.zeros(1, 3), r"found shape \(1, 3\); expected finite numbers of shape \(1, 2\)"),
        ([1], [1], torch.full((1, 2), torch.nan), r"found shape \(1, 2\) with NaN or infinity"),
    ],
)
def test_what_cannot_be_asked_is_named(users, items, images, message):
    with pytest.raises(UserError, match=message):
        Table().score(torch.tensor(users), torch.tensor(items), images)
