"""LATTICE against dense matrices, and whether it learns from features."""

from __future__ import annotations

import pytest
import torch
from dense_micro import dense_graph, dense_interactions
from sparse_world import fitted, popularity_recall

from ranking_models.what_if import scorer
from recgen.core.errors import UserError

SMALL = {"embedding_size": 8, "knn_k": 4, "train_batch_size": 32, "reg_weight": 0.1, "graph_mix": 0.6}
LOGITS = [0.7, -0.4]


@pytest.fixture
def built(build, request):
    """A small LATTICE whose modalities weigh differently."""
    made = build("LATTICE", **{**SMALL, **getattr(request, "param", {})})
    with torch.no_grad():
        made.model.modality_logits.copy_(torch.tensor(LOGITS))
    return made


class Dense:
    """The paper's equations with float64 leaves; rows of padding are dropped from all but the users' table."""

    def __init__(self, built) -> None:
        model, inter = built.model, built.train._dataset.inter_feat
        self.model, self.settings, self.names = model, model.settings, model.modalities
        self.users = leaf(model.user_embedding.weight)
        self.items = leaf(model.item_embedding.weight[1:])
        self.logits = leaf(model.modality_logits)
        self.weight = {m: leaf(model.transform[m].weight) for m in self.names}
        self.features = {m: model.features(m)[1:].double() for m in self.names}
        pairs = [
            (u, i - 1) for u, i in zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True)
        ]
        self.adjacency = dense_interactions(pairs, len(self.users), len(self.items), self.settings.ui_norm)

    def graph(self) -> torch.Tensor:
        share = torch.exp(self.logits) / torch.exp(self.logits).sum()
        total, k, mix = 0, self.settings.knn_k, self.settings.graph_mix
        for alpha, m in zip(share, self.names, strict=True):
            projected = self.features[m] @ self.weight[m].T + self.model.transform[m].bias.double()
            total = total + alpha * (
                mix * dense_graph(self.features[m], k) + (1 - mix) * dense_graph(projected, k)
            )
        return total

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        graph, h = self.graph(), self.items
        for _ in range(self.settings.item_layers):
            h = graph @ h
        first = torch.cat([self.users, self.items])
        mean = (first + self.adjacency @ first + self.adjacency @ self.adjacency @ first) / 3
        n = len(self.users)
        return mean[:n], mean[n:] + h / h.norm(dim=1, keepdim=True)

    def loss(self, user, positive, negative) -> torch.Tensor:
        users, items = self.forward()
        u, p, n = users[user], items[positive - 1], items[negative - 1]
        squares = (u**2).sum() + (p**2).sum() + (n**2).sum()
        ranking = -torch.log(torch.sigmoid((u * p).sum(1) - (u * n).sum(1))).mean()
        return ranking + self.settings.reg_weight * squares / 2 / self.model.nominal_batch


def leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().double().clone().requires_grad_()


@pytest.mark.parametrize("built", [{}, {"ui_norm": "sym"}, {"item_layers": 2}], indirect=True)
def test_scores_are_those_of_dense_matrices(built):
    users, items = built.model.eval().final()
    dense_users, dense_items = Dense(built).forward()
    torch.testing.assert_close(users.double(), dense_users, atol=1e-5, rtol=0)
    torch.testing.assert_close(items[1:].double(), dense_items, atol=1e-5, rtol=0)


@pytest.mark.parametrize("built", [{}, {"item_layers": 2}], indirect=True)
def test_loss_and_gradients_are_those_of_dense_matrices(built):
    model, dense, batch = built.model.train(), Dense(built), next(iter(built.train))
    loss = sum(model.calculate_loss(batch))
    loss.backward()
    expected = dense.loss(batch["user_id"], batch["item_id"], batch["neg_item_id"])
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    pairs = [
        (model.user_embedding.weight.grad, dense.users.grad),
        (model.item_embedding.weight.grad[1:], dense.items.grad),
        (model.modality_logits.grad, dense.logits.grad),
        *((model.transform[m].weight.grad, dense.weight[m].grad) for m in dense.names),
    ]
    for found, wanted in pairs:
        assert wanted.abs().max() > 1e-7, "a gradient of zero would prove nothing"
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-3)


def test_another_image_is_scored_in_graphs_built_with_it(built):
    model = built.model.eval()
    users, items = torch.tensor([3, 7, 7, 12]), torch.tensor([5, 5, 9, 20])
    images = torch.randn(4, 12, generator=torch.Generator().manual_seed(2))
    scores, ranks = scorer(model).score(users, items, images), scorer(model).rank(users, items, images)
    for row, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        dense = Dense(built)
        dense.features["image"][item - 1] = images[row].double()
        everyone, everything = dense.forward()
        expected = everything @ everyone[user]
        assert scores[row].item() == pytest.approx(expected[item - 1].item(), abs=1e-4)
        seen = set(model.history(torch.tensor([user]))[1].tolist())
        others = [j for j in range(1, model.n_items) if j not in seen and j != item]
        assert ranks[row] == sum(bool(expected[j - 1] > expected[item - 1]) for j in others)
    assert not torch.allclose(scores, scorer(model).score_original(users, items), atol=1e-3)


def test_a_scorer_stays_as_it_was_when_training_goes_on(built):
    model = built.model.eval()
    asked = torch.tensor([3]), torch.tensor([5]), torch.randn(1, 12)
    what_if = scorer(model)
    before = what_if.score(*asked)
    with torch.no_grad():
        model.modality_logits.copy_(torch.tensor([-2.0, 2.0]))
    assert torch.equal(what_if.score(*asked), before)
    assert not torch.allclose(scorer(model).score(*asked), before, atol=1e-3)


def test_two_item_layers_cannot_be_asked_what_if(build):
    with pytest.raises(UserError, match="item_layers"):
        scorer(build("LATTICE", **SMALL, item_layers=2).model)


def test_it_learns_and_it_learns_from_features(tmp_path, monkeypatch):
    """On few interactions it ranks better than popularity, and better than with the features of other items."""
    monkeypatch.chdir(tmp_path)
    settings = {"embedding_size": 32, "learning_rate": 0.01, "epochs": 30, "eval_step": 3, "stopping_step": 4}
    built, own = fitted(tmp_path / "own", "LATTICE", settings)
    _, shuffled = fitted(tmp_path / "shuffled", "LATTICE", settings, shuffled=True)
    popularity = popularity_recall(built)
    assert own > 1.5 * popularity, f"{own} against {popularity}"
    assert own > 1.2 * shuffled, f"{own} against {shuffled}"
