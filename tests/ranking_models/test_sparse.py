"""Sparse products and graphs against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from ranking_models.sparse import SparsePattern, edge_similarity, interaction_graph, light_gcn, propagate

MET = [(0, 0), (0, 2), (1, 2), (0, 2)]
"""Three users, the last without any item, and four items, the second and the last without any user; one pair twice."""


def dense(pattern: SparsePattern, values: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(pattern.n_rows, pattern.n_columns)
    return found.index_put((pattern.rows, pattern.columns), values.float(), accumulate=True)


def adjacency() -> np.ndarray:
    met = np.zeros((3, 4))
    for user, item in MET:
        met[user, item] = 1
    return np.block([[np.zeros((3, 3)), met], [met.T, np.zeros((4, 4))]])


@pytest.mark.parametrize("norm", ["row_self", "sym"])
def test_the_normalised_graph_of_users_and_items(norm):
    users, items = zip(*MET, strict=True)
    with np.errstate(all="raise"):
        pattern, values = interaction_graph(sp.coo_matrix((np.ones(4), (users, items)), shape=(3, 4)), norm)
    graph = adjacency()
    if norm == "row_self":
        graph += np.eye(7)
        expected = graph / graph.sum(axis=1, keepdims=True)
    else:
        degree = graph.sum(axis=1)
        root = np.sqrt(np.maximum(degree, 1))  # who met nothing has a row of zeros
        expected = graph / root / root[:, None]
    assert values.dtype == torch.float32 and (pattern.n_rows, pattern.n_columns) == (7, 7)
    torch.testing.assert_close(dense(pattern, values), torch.from_numpy(expected).float())


def test_light_gcn_is_the_mean_over_layers():
    users, items = zip(*MET, strict=True)
    graph = interaction_graph(sp.coo_matrix((np.ones(4), (users, items)), shape=(3, 4)), "sym")
    start = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    matrix, layers = dense(*graph), [start]
    for _ in range(2):
        layers.append(matrix @ layers[-1])
    mean = sum(layers) / 3
    found = light_gcn(*graph, start[:3], start[3:], n_layers=2)
    torch.testing.assert_close(found[0], mean[:3])
    torch.testing.assert_close(found[1], mean[3:])


@pytest.mark.parametrize("of_values, of_dense", [(True, False), (False, True)])
def test_only_the_gradient_that_is_asked_for(of_values, of_dense):
    pattern = SparsePattern(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), 3)
    values = torch.tensor([2.0, 3.0, 5.0], requires_grad=of_values)
    rows = torch.arange(6.0).view(3, 2).requires_grad_(of_dense)
    propagate(pattern, values, rows).sum().backward()
    if of_values:  # each edge's is the sum of its column's row
        assert values.grad.tolist() == [1, 9, 5] and rows.grad is None
    else:  # each row's is the sum of its column's values
        assert rows.grad.tolist() == [[2, 2], [5, 5], [3, 3]] and values.grad is None


def test_products_keep_their_precision_in_mixed_precision():
    pattern = SparsePattern(torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
    values, rows = torch.tensor([1.0, 1.0]), torch.tensor([[1.0], [1 / 4096]])
    with torch.autocast("cpu", torch.bfloat16):
        found = pattern.product(values, rows)
    assert found.dtype == torch.float32 and found.item() == 1 + 1 / 4096


def test_similarity_of_end_points():
    unit = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    found = edge_similarity(SparsePattern(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1]), 2), unit)
    torch.testing.assert_close(found, torch.tensor([0.6, 0.6, 1.0]))
    (2 * found[0] + found[2]).backward()  # d(2 u0 u1 + u1 u1)
    torch.testing.assert_close(unit.grad, torch.tensor([[1.2, 1.6], [2 + 1.2, 1.6]]))
