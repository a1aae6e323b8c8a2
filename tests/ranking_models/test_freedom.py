"""FREEDOM against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

SMALL = {"embedding_size": 6, "knn_k": 3, "image_weight": 0.3, "edge_dropout": 0.5, "modality_weight": 0.2}


@pytest.fixture
def built(build):
    made = build("FREEDOM", users=18, items=20, per_user=8, **SMALL)
    made.model.double()
    return made


def dense_items(model, images: torch.Tensor | None = None) -> torch.Tensor:
    """The item graph: equal weights for the three nearest of each item, itself among them, mixed .3 to .7."""
    total = torch.zeros(model.n_items, model.n_items, dtype=torch.float64)
    for modality, weight in (("image", 0.3), ("text", 0.7)):
        table = model.features(modality) if images is None or modality == "text" else images
        unit = torch.nn.functional.normalize(table[1:].double())
        for row, near in enumerate((unit @ unit.T).topk(3).indices):
            total[row + 1, near + 1] += weight / 3
    return total


def dense_users(model, edges: list[tuple[int, int]]) -> torch.Tensor:
    """LightGCN's normalised adjacency of users and items."""
    size = model.n_users + model.n_items
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for user, item in edges:
        matrix[user, model.n_users + item] = matrix[model.n_users + item, user] = 1
    degree = matrix.sum(1).clamp(min=1).rsqrt()
    return degree[:, None] * matrix * degree


def dense_forward(model, edges, images=None) -> tuple[torch.Tensor, torch.Tensor]:
    first = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    graph = dense_users(model, edges)
    mean = (first + graph @ first + graph @ graph @ first) / 3
    view = dense_items(model, images) @ model.item_embedding.weight
    return mean[: model.n_users], mean[model.n_users :] + view


def edges_of(model) -> list[tuple[int, int]]:
    return list(zip(model.edge_users.tolist(), model.edge_items.tolist(), strict=True))


def test_scores_are_those_of_dense_matrices(built):
    model = built.model.eval()
    users, items = dense_forward(model, edges_of(model))
    found = model.full_sort_predict({model.USER_ID: torch.arange(1, model.n_users)})
    torch.testing.assert_close(found.view(-1, model.n_items), users[1:] @ items.T)


def test_the_loss_of_an_epoch_is_over_its_sample_of_the_interactions(built):
    model = built.model
    torch.manual_seed(0)
    model.begin_epoch(0)
    torch.manual_seed(0)
    kept = torch.multinomial(model.keep_probability(), round(len(model.edge_users) / 2)).tolist()
    users, items = dense_forward(model, [edges_of(model)[place] for place in kept])
    batch = {model.USER_ID: [1, 2, 3], model.ITEM_ID: [4, 5, 6], model.NEG_ITEM_ID: [7, 8, 9]}
    batch = {name: torch.tensor(ids) for name, ids in batch.items()}
    user, positive, negative = users[1:4], batch[model.ITEM_ID], batch[model.NEG_ITEM_ID]
    expected = -logsigmoid((user * (items[positive] - items[negative])).sum(1)).mean()
    second = 0.0
    for modality in ("image", "text"):
        table = model.transform[modality](model.features(modality))
        second = second - logsigmoid((user * (table[positive] - table[negative])).sum(1)).mean()
    found = model.calculate_loss(batch)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], 0.2 * second)
    sum(found).backward()
    sum_dense = expected + 0.2 * second
    gradient = model.item_embedding.weight.grad.clone()
    model.zero_grad()
    sum_dense.backward()
    torch.testing.assert_close(model.item_embedding.weight.grad, gradient)


def test_interactions_of_rarely_seen_nodes_are_kept_more_often(built):
    model = built.model
    probability = model.keep_probability()
    degree = {
        name: torch.bincount(nodes) for name, nodes in (("u", model.edge_users), ("i", model.edge_items))
    }
    by_hand = [float(degree["u"][u] * degree["i"][i]) ** -0.5 for u, i in edges_of(model)]
    np.testing.assert_allclose(probability.numpy(), np.array(by_hand) / sum(by_hand), rtol=1e-5)


def test_another_image_is_scored_in_a_graph_built_with_it(built):
    model = built.model.eval()
    scorer = model.what_if("exact")
    images = model.features("image").clone()
    images[5] = images[9] + 0.01
    users, items = dense_forward(model, edges_of(model), images)
    found = scorer.score(torch.tensor([3]), torch.tensor([5]), images[5:6].float())
    torch.testing.assert_close(found, (users[3] @ items[5])[None], check_dtype=False)
