"""Nearest neighbours against brute force, duplicates and the corners of the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ranking_models import neighbours
from ranking_models.neighbours import inverse_root, nearest_items, normalise, remembered_items, unit_rows
from ranking_models.sparse import SparsePattern, edge_similarity, propagate

EXACT = {"exact_up_to": 10_000, "probes": 1}


def features(n: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n + 1, dim, generator=torch.Generator().manual_seed(seed))


def brute_force(table: torch.Tensor, k: int) -> list[list[int]]:
    """Itself, then the k - 1 others of highest cosine in float32 steps, lower ids first among equals; the k-th other last."""
    rows = table.double().numpy()[1:]
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    cosine = (unit @ unit.T).astype(np.float32)
    result = []
    for item in range(len(rows)):
        others = sorted((j for j in range(len(rows)) if j != item), key=lambda j: (-cosine[item, j], j))
        result.append([item + 1, *(j + 1 for j in others[:k])])
    return result


def listed(near) -> list[list[int]]:
    return torch.cat([near.ids, near.next_id[:, None]], 1)[1:].tolist()


def test_neighbours_equal_brute_force():
    table = features(300)
    near = nearest_items(unit_rows(table), 10, **EXACT)
    assert listed(near) == brute_force(table, 10)
    assert near.ids[0].eq(0).all() and near.similarity[0].eq(0).all()
    assert not near.ids[1:].eq(0).any()
    expected = torch.nn.functional.cosine_similarity(table[1:, None], table[near.ids[1:]], dim=2)
    torch.testing.assert_close(near.similarity[1:], expected)


def test_the_search_is_exhaustive_up_to_the_size_that_is_asked_for():
    table = features(300)
    assert listed(nearest_items(unit_rows(table), 10, exact_up_to=300, probes=1)) == brute_force(table, 10)
    assert listed(nearest_items(unit_rows(table), 10, exact_up_to=299, probes=1)) != brute_force(table, 10)


def test_the_gpus_search_is_the_cpus(monkeypatch):
    unit = unit_rows(features(40))[1:]
    expected = neighbours._search(unit, 5, exact_up_to=40, probes=1)
    for cells in (1 << 22, 100, 1):
        monkeypatch.setattr(neighbours, "CELLS_PER_CHUNK", cells)
        assert torch.equal(neighbours._exhaustive(unit, 5), expected)


def test_an_inverted_file_that_finds_too_few_leaves_edges_without_weight():
    unit = unit_rows(features(400))
    near = nearest_items(unit, 6, exact_up_to=1, probes=1)
    cosines = (unit[1:, None] * unit[near.ids[1:]]).sum(2)
    rows = torch.arange(1, 401)[:, None]
    absent = (near.ids[1:] == rows) & (torch.arange(6) > 0)
    assert absent.any() and not near.similarity[1:][absent].any()
    torch.testing.assert_close(near.similarity[1:][~absent], cosines[~absent])
    unknown = near.next_id[1:] == -1
    assert unknown.any() and near.next_similarity[1:][unknown].isneginf().all()
    assert near.next_id[1:][~unknown].min() > 0 and near.next_similarity[1:][~unknown].isfinite().all()
    assert not (absent.any(1) & ~unknown).any(), "who has too few has no next one"


@pytest.mark.parametrize("groups", [1, 2, 5, 9])
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_few_items_and_many_duplicates_equal_brute_force(groups, k):
    table = features(9)
    table[1:] = table[1 + torch.arange(9) % groups].clone()
    near = nearest_items(unit_rows(table), k, **EXACT)
    assert listed(near) == brute_force(table, k)


def test_more_duplicates_than_neighbours_are_listed_by_id():
    table = features(60)
    table[[5, 9, 14, 20, 33, 41, 50, 58]] = table[2].clone()
    table[[7, 8]] = table[3].clone()
    near = nearest_items(unit_rows(table), 4, **EXACT)
    assert listed(near) == brute_force(table, 4)
    assert near.ids[50].tolist() == [50, 2, 5, 9] and near.next_id[50] == 14
    assert near.ids[2].tolist() == [2, 5, 9, 14]


def test_an_item_without_features_has_weight_zero_and_no_nan():
    table = features(30)
    table[4] = 0
    near = nearest_items(unit_rows(table), 5, **EXACT)
    weights = normalise(near.ids, near.similarity)
    assert weights.isfinite().all() and weights[4].eq(0).all()
    assert near.ids[4, 0] == 4


def test_fewer_items_than_neighbours_takes_all():
    near = nearest_items(unit_rows(features(6)), 10, **EXACT)
    assert near.ids.shape == (7, 6)
    assert sorted(near.ids[3].tolist()) == [1, 2, 3, 4, 5, 6]
    assert near.next_id.eq(-1).all() and near.next_similarity.isneginf().all()


def test_inverted_file_finds_nearly_all_and_never_padding():
    table = torch.nn.functional.normalize(features(3000, 16, seed=1)) + features(3000, 16, seed=2) * 0.1
    unit = unit_rows(table)
    exact, fast = nearest_items(unit, 10, **EXACT), nearest_items(unit, 10, exact_up_to=100, probes=32)
    found = [len(set(a) & set(b)) for a, b in zip(exact.ids[1:].tolist(), fast.ids[1:].tolist(), strict=True)]
    assert np.mean(found) > 9
    assert not fast.ids[1:].eq(0).any() and fast.ids[1:, 0].tolist() == list(range(1, 3001))


def test_sparse_products_and_their_gradients_equal_dense_ones():
    torch.manual_seed(0)
    starts = torch.tensor([0, 3, 3, 5, 9])
    columns = torch.tensor([2, 0, 2, 1, 4, 4, 3, 0, 0])  # column 2 twice in row 0, column 0 twice in row 3
    pattern = SparsePattern(starts, columns, 5)
    values = torch.randn(9, dtype=torch.float64, requires_grad=True)
    dense = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    matrix = torch.zeros(4, 5, dtype=torch.float64).index_put(
        (pattern.rows, columns), values, accumulate=True
    )
    torch.testing.assert_close(propagate(pattern, values, dense), matrix @ dense)
    assert torch.autograd.gradcheck(lambda v, x: propagate(pattern, v, x), (values, dense))
    square = SparsePattern(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 2, 0, 1]), 3)
    unit = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: edge_similarity(square, x), (unit,))


def test_a_graph_of_the_same_rows_is_searched_for_once(monkeypatch):
    searched = []
    search = neighbours._search
    monkeypatch.setattr(neighbours, "_search", lambda *given: (searched.append(1), search(*given))[1])
    monkeypatch.setattr(neighbours, "_remembered", neighbours.OrderedDict())
    unit, other = unit_rows(features(60)), unit_rows(features(60) + 0.01)
    first, again = (remembered_items(unit.clone(), 5, **EXACT) for _ in range(2))
    assert len(searched) == 1
    again.ids.zero_()  # what is given out is the caller's own
    for found in (first, remembered_items(unit, 5, **EXACT)):
        expected = nearest_items(unit, 5, **EXACT)
        for name in ("ids", "similarity", "next_id", "next_similarity"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
    assert not torch.equal(remembered_items(other, 5, **EXACT).similarity, first.similarity)
    assert remembered_items(unit, 4, **EXACT).ids.shape == (61, 4)
    for place in range(6):
        remembered_items(unit_rows(features(10) + place), 3, **EXACT)
    assert len(neighbours._remembered) == neighbours._GRAPHS_KEPT


def test_rows_are_hashed_the_same_in_pieces(monkeypatch):
    items = unit_rows(torch.cat([features(50), features(50)]))
    whole = neighbours._groups(items)
    monkeypatch.setattr(neighbours, "ROWS_HASHED", 7)
    pieces = neighbours._groups(items)
    assert all(torch.equal(*pair) for pair in zip(whole, pieces, strict=True))
    group_of, first = whole
    half = len(items) // 2
    assert torch.equal(group_of[:half], group_of[half:]) and len(first) == half, "each row is there twice"
    assert sorted(first.tolist()) == list(range(half)) and torch.equal(items[first][group_of], items)


def test_rows_that_differ_in_one_number_or_in_its_place_are_told_apart():
    row = torch.arange(1.0, 9.0)
    items = torch.cat([row[None], row + torch.eye(8), row.roll(1)[None], torch.zeros(1, 8)])
    assert len(neighbours._groups(items)[1]) == 11


def test_rows_of_any_length_become_unit_rows_whatever_the_piece(monkeypatch):
    table = features(30)
    unit, found = unit_rows(table), nearest_items(unit_rows(table), 5, **EXACT)
    torch.testing.assert_close(unit_rows(0.01 * table), unit)
    monkeypatch.setattr(neighbours, "CELLS_PER_CHUNK", 1)
    assert torch.equal(unit_rows(table), unit)
    assert torch.equal(nearest_items(unit, 5, **EXACT).ids, found.ids)
    nobody = torch.zeros(0, dtype=torch.int64)
    assert neighbours.pair_similarity(unit, unit, nobody, nobody).shape == (0,)


def test_inverse_roots_and_their_gradient():
    degree = torch.tensor([0.0, -1.0, 0.25, 4.0], requires_grad=True)
    found = inverse_root(degree)
    assert found.tolist() == [0, 0, 2, 0.5]
    found.sum().backward()
    torch.testing.assert_close(degree.grad, torch.tensor([0.0, 0.0, -4.0, -0.0625]))  # -1/2 d^(-3/2)
