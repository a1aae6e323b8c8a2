"""Losses, starts and draws of the ranking models against numpy and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from recbole.data.interaction import Interaction

from ranking_models.contrastive import contrastive_loss
from ranking_models.sampling import UserUniformBatches
from ranking_models.standard import Standardise
from ranking_models.vbpr import VBPRSettings
from ranking_models.verifier import VerifierSettings
from recgen.core.seeding import numpy_rng


def randomised(model) -> dict[str, np.ndarray]:
    """Give every parameter a random value; return parameters and buffers in float64."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [0, 3])
def test_the_verifiers_logits_and_loss(build, bias, hidden):
    own = {"embedding_size": 2, "hidden_size": hidden, "bias": bias, "user_reg": 0.3, "map_reg": 0.7}
    built = build("Verifier", eval_args={"mode": "labeled"}, standardise=False, **own)
    model = built.model
    values, batch = randomised(model), next(iter(built.train))
    images = model.features("image").double().numpy()
    if hidden:
        inner = images @ values["hidden.weight"].T + values["hidden.bias"]
        features = np.hstack([images, np.maximum(inner, 0)])
    else:
        features = images
    users = values["user_embedding.weight"]
    if bias:
        features, users = (np.hstack([rows, np.ones((len(rows), 1))]) for rows in (features, users))
    table = users @ values["map"] @ features.T
    u, i, label = (batch[name].numpy() for name in ("user_id", "item_id", "label"))
    error, penalty = model.calculate_loss(batch)
    signed = np.where(label > 0, -1, 1) * table[u, i]
    assert 0 < label.mean() < 1
    assert error.item() == pytest.approx(np.logaddexp(0, signed).mean(), rel=1e-4)
    squares = 0.3 * (values["user_embedding.weight"] ** 2).sum() + 0.7 * (values["map"] ** 2).sum()
    squares += 0.7 * (values["hidden.weight"] ** 2).sum() if hidden else 0
    assert penalty.item() == pytest.approx(squares / 2 / len(built.train._dataset.inter_feat), rel=1e-4)
    chance = 1 / (1 + np.exp(-table))
    np.testing.assert_allclose(model.predict(batch).detach(), chance[u, i], atol=1e-4)
    two = Interaction({"user_id": torch.tensor([3, 1])})
    np.testing.assert_allclose(model.full_sort_predict(two).view(2, -1).detach(), chance[[3, 1]], atol=1e-4)


def test_where_verifier_and_vbpr_start(build):
    verifier = build(
        "Verifier", eval_args={"mode": "labeled"}, embedding_size=80, hidden_size=20, bias=True
    ).model  # fmt: skip
    assert verifier.map.shape == (81, 12 + 20 + 1)
    assert verifier.map.std().item() == pytest.approx(0.5 / np.sqrt(32), rel=0.1)
    assert verifier.user_embedding.weight.std().item() == pytest.approx(0.1, rel=0.1)
    vbpr = build("VBPR", embedding_size=60, visual_size=50).model
    for table in (vbpr.user_embedding, vbpr.item_embedding, vbpr.user_visual):
        assert table.weight.std().item() == pytest.approx(0.1, rel=0.1)
    assert vbpr.map.shape == (50, 12) and vbpr.map.std().item() == pytest.approx(12**-0.5, rel=0.1)
    assert not vbpr.item_bias.weight.any() and not vbpr.picture_bias.any()
    assert vbpr.item_bias.weight.shape == (vbpr.n_items, 1)


@pytest.mark.parametrize(
    "settings, least",
    [
        (VerifierSettings, {"embedding_size": 1, "hidden_size": 0, "user_reg": 0.0, "map_reg": 0.0}),
        (
            VBPRSettings,
            {"embedding_size": 0, "visual_size": 1}
            | dict.fromkeys(("reg_weight", "visual_reg_weight", "image_bias_reg_weight"), 0.0),
        ),
    ],
)
def test_the_least_settings_are_taken_and_no_lesser_ones(settings, least):
    more = {"standardise": True, **({"bias": True} if settings is VerifierSettings else {})}
    settings(**least, **more)
    for name, value in least.items():
        with pytest.raises(ValidationError, match=name):
            settings(**{**least, name: value - (1 if isinstance(value, int) else 0.5)}, **more)


def test_standardising_by_distinct_rows():
    raw = torch.tensor([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [4.0, 5.0], [7.0, 5.0]])
    standard = Standardise(raw, True)
    torch.testing.assert_close(standard.mean, torch.tensor([4.0, 5.0]))
    torch.testing.assert_close(standard.deviation, torch.tensor([3.0, 1e-6]))
    torch.testing.assert_close(standard(torch.tensor([[10.0, 5.0]])), torch.tensor([[2.0, 0.0]]))
    assert torch.equal(Standardise(raw, False)(raw), raw)
    one = Standardise(raw[:3], True)
    assert torch.equal(one(torch.tensor([[3.0, 5.0]])), torch.tensor([[2.0, 0.0]])), (
        "one image has no deviation"
    )
    two = Standardise(raw[2:4], True)
    torch.testing.assert_close(two.deviation[0], torch.tensor(4.5**0.5))


def test_a_single_item_contrasts_with_nothing():
    a, b = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    loss = contrastive_loss(a, b, 0.5, population=7)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    loss.backward()
    assert a.grad.abs().max() < 1e-6
    two = contrastive_loss(torch.eye(2), torch.eye(2).flip(0), 0.5, population=3)
    others = 2 * (1 + np.exp(2.0))  # (3 - 1) / (2 - 1) times e^{0} and e^{1 / t}
    assert two.item() == pytest.approx(-np.log(1 / (1 + others)), rel=1e-5)


@pytest.mark.parametrize("batch_size", [7, 20, 400])
def test_batches_of_users_are_those_of_loops(build, batch_size):
    built = build("MICRO", embedding_size=8, knn_k=4, train_batch_size=batch_size)
    inter, n_items = built.train._dataset.inter_feat, built.model.n_items
    seen: dict[int, list[int]] = {}
    for user, item in zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True):
        seen.setdefault(user, []).append(item)
    users = sorted(seen)
    rng = numpy_rng(4, "user-uniform epoch 2")
    batches = UserUniformBatches(built.train, seed=4, epoch=2)
    assert len(batches) == len(inter) // batch_size + 1 and batches.shuffle
    assert len(users) == 20 and len(list(UserUniformBatches(built.train, seed=4, epoch=2))) == len(batches)
    for batch in batches:
        drawn = rng.choice(np.array(users), batch_size, replace=batch_size > len(users))
        places = rng.integers(0, np.array([len(seen[user]) for user in drawn]))
        positives = [sorted(seen[user])[place] for user, place in zip(drawn, places, strict=True)]
        negatives = rng.integers(1, n_items, batch_size)
        again = [n for n in range(batch_size) if negatives[n] in seen[drawn[n]]]
        while again:
            negatives[again] = rng.integers(1, n_items, len(again))
            again = [n for n in again if negatives[n] in seen[drawn[n]]]
        assert batch["user_id"].tolist() == drawn.tolist() and batch["item_id"].tolist() == positives
        assert batch["neg_item_id"].tolist() == negatives.tolist()
