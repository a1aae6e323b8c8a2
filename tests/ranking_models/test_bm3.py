"""BM3 against dense matrices, whether it learns, and that it is refused where an image would have to change a score."""

from __future__ import annotations

import pytest
import torch
from dense_micro import dense_interactions
from pydantic import ValidationError
from recbole.data.interaction import Interaction
from sparse_world import fitted, popularity_recall
from torch.nn.functional import dropout

from ranking_models.what_if import scorer
from recgen.core.errors import UserError

SMALL = {"embedding_size": 6, "dropout": 0.4, "modality_weight": 0.7, "reg_weight": 0.3, "n_layers": 2}


@pytest.fixture
def built(build):
    """A small BM3 in float64 whose biases are away from zero."""
    made = build("BM3", **SMALL)
    made.model.double()
    with torch.no_grad():
        made.model.predictor.bias.normal_()
        for layer in made.model.transform.values():
            layer.bias.normal_()
    return made


def dense_vectors(built) -> tuple[torch.Tensor, torch.Tensor]:
    """h_u and h_i by LightGCN's dense normalised adjacency."""
    model, inter = built.model, built.train._dataset.inter_feat
    pairs = list(zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True))
    graph = dense_interactions(pairs, model.n_users, model.n_items, "sym")
    first = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    mean = (first + graph @ first + graph @ graph @ first) / 3
    return mean[: model.n_users], mean[model.n_users :] + model.item_embedding.weight


def test_scores_are_those_of_dense_matrices(built):
    model, (users, items) = built.model.eval(), dense_vectors(built)
    weight, bias = model.predictor.weight, model.predictor.bias
    expected = (users[1:] @ weight.T + bias) @ (items @ weight.T + bias).T
    found = model.full_sort_predict(Interaction({"user_id": torch.arange(1, model.n_users)}))
    torch.testing.assert_close(found.view(-1, model.n_items), expected)
    pairs = Interaction({"user_id": torch.tensor([3, 1, 3]), "item_id": torch.tensor([2, 2, 7])})
    torch.testing.assert_close(model.predict(pairs), expected[[2, 0, 2], [2, 2, 7]])


def test_training_begins_in_training_and_what_the_data_say_is_not_saved(built):
    assert built.model.eval().train().training and not built.model.eval().training
    assert not [name for name in built.model.state_dict() if name.startswith("interaction_")]


def test_the_least_settings_are_taken_and_no_lesser_ones(built):
    settings = type(built.model.settings)
    least = {"embedding_size": 1, "n_layers": 0, "dropout": 0.0, "modality_weight": 0.0, "reg_weight": 0.0}
    given = {**built.model.settings.model_dump(), **least}
    assert settings(**given).dropout == 0
    lesser = {name: value - (1 if isinstance(value, int) else 0.5) for name, value in least.items()}
    for name, value in [*lesser.items(), ("dropout", 1.0)]:
        with pytest.raises(ValidationError, match=name):
            settings(**{**given, name: value})


def test_the_loss_is_the_papers_with_targets_that_no_gradient_passes(built):
    model = built.model.train()
    features = {m: model.features(m).double() for m in model.modalities}
    model.features = features.__getitem__
    batch = {"user_id": [1, 2, 3, 3], "item_id": [4, 5, 6, 4], "neg_item_id": [7, 8, 9, 9]}
    batch = Interaction({name: torch.tensor(ids) for name, ids in batch.items()})
    torch.manual_seed(5)
    found = model.calculate_loss(batch)
    sum(found).backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()

    torch.manual_seed(5)
    every_user, every_item = dense_vectors(built)
    users, items = every_user[batch["user_id"]], every_item[batch["item_id"]]
    aims = [dropout(each.detach(), 0.4) for each in (users, items)]
    graph = distance(model, users, aims[1]) + distance(model, items, aims[0])
    modal = 0.0
    for m in ("image", "text"):
        view = features[m][batch["item_id"]] @ model.transform[m].weight.T + model.transform[m].bias
        modal = modal + distance(model, view, aims[1])
        modal = modal + distance(model, view, dropout(view.detach(), 0.4))
    norms = every_user[1:].square().sum().sqrt() + every_item[1:].square().sum().sqrt()
    expected = graph, 0.7 * modal, 0.3 * norms / (model.n_items - 1)
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted)
    sum(expected).backward()
    for name, each in model.named_parameters():
        assert each.grad.abs().max() > 1e-9, f"{name}: a gradient of zero would prove nothing"
        torch.testing.assert_close(gradients[name], each.grad, msg=name)


def distance(model, vectors: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    predicted = vectors @ model.predictor.weight.T + model.predictor.bias
    cosine = (predicted * target).sum(1) / (predicted.norm(dim=1) * target.norm(dim=1))
    return (1 - cosine).mean()


def test_it_learns_and_features_change_what_it_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"embedding_size": 32, "learning_rate": 0.01, "epochs": 24, "eval_step": 3}
    settings |= {"train_batch_size": 512}
    built, own = fitted(tmp_path / "own", "BM3", settings, per_user=20)
    popularity = popularity_recall(built)
    assert own > 1.5 * popularity, f"{own} against {popularity}"
    other, _ = fitted(tmp_path / "shuffled", "BM3", {**settings, "epochs": 3}, 20, shuffled=True)
    same, _ = fitted(tmp_path / "again", "BM3", {**settings, "epochs": 3}, 20)
    first = fitted(tmp_path / "first", "BM3", {**settings, "epochs": 3}, 20)[0].model.final()[1]
    assert torch.equal(same.model.final()[1], first)
    assert not torch.allclose(other.model.final()[1], first, atol=1e-3)


def test_once_trained_it_reads_no_image_and_says_so(built):
    model = built.model.eval()
    users = Interaction({"user_id": torch.arange(1, model.n_users)})
    before = model.full_sort_predict(users)
    model.features("image")[3] += 5
    model.features_changed()
    assert torch.equal(model.full_sort_predict(users), before)
    with pytest.raises(UserError, match=r"BM3.*in training alone.*recgen\.downstream\.model"):
        scorer(model)
