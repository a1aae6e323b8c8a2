"""MICRO against its specification, worked out independently."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from dense_micro import DenseMicro, contrast
from pydantic import ValidationError
from recbole.data.interaction import Interaction

from ranking_models.contrastive import contrastive_loss
from recgen.core.errors import UserError

SMALL = {
    "embedding_size": 8,
    "knn_k": 4,
    "train_batch_size": 32,
    "reg_weight": 0.1,
    "contrastive_weight": 0.5,
}


def pairs_of(built) -> list[tuple[int, int]]:
    inter = built.train._dataset.inter_feat
    return list(zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True))


def first_batch(built) -> Interaction:
    return next(iter(built.train))


@pytest.mark.parametrize(
    "settings",
    [{}, {"ui_norm": "sym"}, {"item_layers": 2}, {"graph_mix": 0.3, "temperature": 0.1}],
    ids=["default", "sym", "two item layers", "mix"],
)
def test_forward_equals_the_specification(build, settings):
    built = build(**{**SMALL, **settings})
    model = built.model.eval()
    users, items = model.final()
    dense_users, dense_items, _, _ = DenseMicro(model, pairs_of(built)).forward()
    torch.testing.assert_close(users.double(), dense_users, atol=1e-5, rtol=0)
    torch.testing.assert_close(items[1:].double(), dense_items, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings", [{}, {"ui_norm": "sym", "item_layers": 2, "temperature": 0.2}], ids=["default", "other"]
)
def test_loss_and_gradients_equal_the_specification(build, settings):
    built = build(**{**SMALL, **settings})
    model, batch = built.model, first_batch(built)
    dense = DenseMicro(model, pairs_of(built))
    ids = batch["user_id"], batch["item_id"], batch["neg_item_id"]
    model.train()
    for constant in (False, True):  # the batch that rebuilds the learned graph, and the next one
        model.zero_grad()
        loss = sum(model.calculate_loss(batch))
        loss.backward()
        expected = dense.loss(*ids, learned_constant=constant)
        names = {f"weight.{m}": dense.weight[m] for m in dense.names} | {
            f"bias.{m}": dense.bias[m] for m in dense.names
        }
        leaves = {
            "users": dense.users,
            "items": dense.items,
            "q1": dense.q1,
            "q1_bias": dense.q1_bias,
            "q2": dense.q2,
        }
        grads = torch.autograd.grad(expected, list((leaves | names).values()), allow_unused=True)
        wanted = dict(zip(leaves | names, grads, strict=True))
        got = {
            "users": model.user_embedding.weight.grad,
            "items": model.item_embedding.weight.grad[1:],
            "q1": model.query[0].weight.grad,
            "q1_bias": model.query[0].bias.grad,
            "q2": model.query[2].weight.grad,
        }
        for m in dense.names:
            got[f"weight.{m}"], got[f"bias.{m}"] = (
                model.transform[m].weight.grad,
                model.transform[m].bias.grad,
            )
        assert abs(loss.item() - expected.item()) < 1e-5
        for name, grad in got.items():
            if constant and name.startswith(("weight", "bias")):
                assert grad is None and wanted[name] is None
            else:
                assert wanted[name].abs().max() > 1e-7, f"{name}: a gradient of zero would prove nothing"
                torch.testing.assert_close(grad.double(), wanted[name], atol=1e-5, rtol=1e-3, msg=name)


def test_padding_takes_no_part(build):
    built = build(**SMALL)
    model = built.model.eval()
    users, items = (tensor.clone() for tensor in model.final())
    with torch.no_grad():
        model.item_embedding.weight[0] = 1e3
        model.user_embedding.weight[0] = -1e3
    model.features("image")[0] = 1e3
    model.features_changed()
    again_users, again_items = model.final()
    assert torch.equal(users[1:], again_users[1:]) and torch.equal(items[1:], again_items[1:])
    model.train()
    sum(model.calculate_loss(first_batch(built))).backward()
    assert model.item_embedding.weight.grad[0].abs().sum() == 0


@pytest.mark.parametrize("k", [1, 4])
def test_an_epoch_learns_and_scores_with_the_graph_of_its_first_batch(build, k):
    built = build(**SMALL | {"knn_k": k}, graph_rebuild_epochs=2)
    model, batch = built.model, first_batch(built)

    def rebuilt() -> bool:
        return any(graph.values.requires_grad for graph in model._graphs_for_batch().values())

    def scores() -> torch.Tensor:
        return model.forward()[1].detach()

    model.begin_epoch(0)
    assert rebuilt() and not rebuilt(), "the first batch's alone is learned through"
    model.eval()
    model.train()
    assert not rebuilt(), "dynamic negatives switch there and back"
    first = scores()
    with torch.no_grad():
        model.transform["image"].weight.mul_(torch.randn_like(model.transform["image"].weight))
    assert torch.equal(scores(), first)
    near = model.fixed_neighbours("image").next_similarity.clone()
    model.features("image")[3] = -model.features("image")[3]
    model.features_changed()
    assert not torch.equal(model.fixed_neighbours("image").next_similarity, near)
    assert not torch.equal(scores(), first) and rebuilt(), "no graph of the old features is left"
    model.end_epoch()
    fresh = scores()
    with torch.no_grad():
        model.transform["image"].weight.mul_(torch.randn_like(model.transform["image"].weight))
    assert not torch.equal(scores(), fresh), "outside of an epoch, graphs are fresh"
    model.begin_epoch(1)
    assert not rebuilt(), "every other epoch"
    model.end_epoch()
    model.begin_epoch(2)
    assert rebuilt()
    model.end_epoch()
    before = model.eval().final()[1].clone()
    sum(model.train().calculate_loss(batch)).backward()
    with torch.no_grad():
        model.item_embedding.weight.add_(1.0)
    assert not torch.equal(model.eval().final()[1], before), "what was evaluated before training is forgotten"
    assert not [name for name in model.state_dict() if name.startswith(("interaction_", "fixed_"))]


def test_edges_that_an_inverted_file_did_not_find_stay_without_weight_in_training(build):
    model = build(**SMALL | {"knn_k": 8}, knn_exact_up_to=1, knn_probes=1).model.train()
    learned = model.learned_neighbours("image")
    assert (learned.similarity[1:] == 0).any()
    own = model.item_graph("image", learned)
    found = model._item_graph_with_gradient("image")
    torch.testing.assert_close(found.values.detach(), own.values)


def test_trained_features_start_frozen_equal_and_move(build):
    frozen, trained = build(**SMALL), build(**SMALL, trainable_features=True)
    trained.model.load_state_dict({**trained.model.state_dict(), **frozen.model.state_dict()})
    torch.testing.assert_close(frozen.model.eval().final()[1], trained.model.eval().final()[1])
    model = trained.model.train()
    sum(model.calculate_loss(first_batch(trained))).backward()
    grad = model.raw["image"].grad
    assert grad[1:].abs().max() > 0 and grad[0].abs().max() == 0


def test_contrastive_loss_is_exact_on_all_items_and_its_gradient_too():
    torch.manual_seed(0)
    a, b = torch.randn(700, 8, dtype=torch.float64), torch.randn(700, 8, dtype=torch.float64)
    ours, dense = [[x.clone().requires_grad_() for x in (a, b)] for _ in range(2)]
    with warnings.catch_warnings(action="error"):  # torch warns where the work space has another size
        loss, expected = contrastive_loss(*ours, 0.5, population=700), contrast(*dense, 0.5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_sampled_contrastive_loss_estimates_that_of_all_items():
    torch.manual_seed(0)
    a = torch.randn(2000, 8, dtype=torch.float64)
    b = a + 0.5 * torch.randn_like(a)
    full = contrastive_loss(a, b, 0.5, population=2000).item()
    samples = [torch.randperm(2000)[:400] for _ in range(40)]
    estimates = [contrastive_loss(a[s], b[s], 0.5, population=2000).item() for s in samples]
    assert abs(np.mean(estimates) - full) < 0.01
    unscaled = [contrastive_loss(a[s], b[s], 0.5, population=400).item() for s in samples]
    assert abs(np.mean(unscaled) - full) > 1  # without the scaling it estimates something else


def test_the_contrastive_loss_is_over_all_items_or_a_sample_of_them_never_padding(build):
    model = build(**SMALL).model.train()
    with torch.no_grad():
        views, fused = model.latent(model._graphs_for_batch())
    for rows in (*views, fused):
        rows[0] = torch.nan

    def losses(items: int) -> list[float]:
        model.settings = model.settings.model_copy(update={"contrastive_items": items})
        return [model._contrast(views, fused).item() for _ in range(20)]

    every = [contrastive_loss(view[1:], fused[1:], 0.5, model.n_items - 1).item() for view in views]
    assert model.settings.temperature == 0.5
    assert losses(model.n_items - 1) == pytest.approx([sum(every)] * 20) and len(set(losses(100))) == 1
    sampled = losses(model.n_items - 3)
    assert np.isfinite(sampled).all() and len(set(sampled)) > 5, "two items are left out, never the same"
    assert np.mean(sampled) == pytest.approx(sum(every), rel=0.05)


LEAST = {
    "embedding_size": 1, "n_layers": 0, "item_layers": 1, "knn_k": 1, "graph_mix": 0.0, "reg_weight": 0.0,
    "graph_rebuild_epochs": 1, "knn_exact_up_to": 1, "knn_probes": 1,
    "contrastive_weight": 0.0, "temperature": 0.02, "contrastive_items": 2,
}  # fmt: skip


def test_the_least_settings_are_taken_and_no_lesser_ones(build):
    settings = type(build(**SMALL).model.settings)
    given = {**build(**SMALL).model.settings.model_dump(), **LEAST}
    assert settings(**given).graph_mix == 0 and settings(**{**given, "graph_mix": 1.0}).graph_mix == 1
    lesser = {name: value - (1 if isinstance(value, int) else 0.5) for name, value in LEAST.items()}
    for name, value in [*lesser.items(), ("graph_mix", 1.5)]:
        with pytest.raises(ValidationError, match=name):
            settings(**{**given, name: value})


def test_graph_parameters_move_between_rebuilds_by_momentum_as_in_the_reference(build):
    moved = {}
    for momentum in (True, False):
        built = build(**SMALL, momentum_between_rebuilds=momentum)
        trainer, layer = built.trainer(), built.model.transform["image"]
        built.model.train()
        steps = []
        for batch in list(built.train)[:3]:
            before = layer.weight.detach().clone()
            trainer.optimizer.zero_grad()
            sum(built.model.calculate_loss(batch)).backward()
            trainer.optimizer.step()
            steps.append((layer.weight - before).abs().max().item())
        moved[momentum] = steps
    assert moved[True][0] > 0 and moved[True][1] > 0
    assert moved[False][0] > 0 and moved[False][1] == 0


def test_learned_graph_is_rebuilt_once_an_epoch_and_fresh_in_evaluation(build):
    built = build(**SMALL, learning_rate=0.05, graph_rebuild_epochs=2)
    model, batch = built.model, first_batch(built)
    seen = []
    for _ in range(3):
        model.train()
        model.calculate_loss(batch)
        seen.append(model._training_graphs["image"].values)
        with torch.no_grad():
            model.transform["image"].weight += torch.randn_like(model.transform["image"].weight)
        model.calculate_loss(batch)
        assert model._training_graphs["image"].values is seen[-1]
        evaluated = model.eval().final()[1]
        torch.testing.assert_close(
            evaluated[1:].double(), DenseMicro(model, pairs_of(built)).forward()[1], atol=1e-5, rtol=0
        )
    assert seen[0] is seen[1] and seen[2] is not seen[1]


def test_scores_of_pairs_and_of_all_items_agree(build):
    built = build(**SMALL)
    model = built.model.eval()
    users = torch.tensor([3, 1, 7])
    scores = model.full_sort_predict(Interaction({"user_id": users})).view(3, -1)
    items = torch.tensor([5, 2, 9])
    paired = model.predict(Interaction({"user_id": users, "item_id": items}))
    torch.testing.assert_close(paired, scores[torch.arange(3), items])


@pytest.mark.parametrize(
    "settings, word",
    [({"knn_k": 0}, "knn_k"), ({"ui_norm": "rows"}, "ui_norm"), ({"temperature": "hot"}, "temperature")],
)
def test_a_wrong_setting_is_named(build, settings, word):
    with pytest.raises(UserError, match=word):
        build(**settings)


def test_missing_features_are_named(build):
    with pytest.raises(UserError, match="item_features"):
        build(item_features=None)
    with pytest.raises(UserError, match="nowhere.safetensors"):
        build(item_features={"image": "nowhere.safetensors"})
