"""VBPR: equation 4 worked out by hand, its loss, what-if scores against putting the image in, and a training."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from own_script import SCRIPT, run_script
from recbole.data.interaction import Interaction
from small_dataset import write_dataset

from ranking_models.what_if import scorer

SMALL = {
    "embedding_size": 2,
    "visual_size": 3,
    "reg_weight": 0.1,
    "visual_reg_weight": 0.2,
    "image_bias_reg_weight": 0.3,
}


@pytest.fixture
def drawn(build):
    """A small VBPR whose parameters, biases too, are all away from zero."""
    model = build("VBPR", **SMALL).model
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def by_hand(model, user: int, item: int, image: np.ndarray) -> float:
    """Equation 4 in float64, without alpha and beta_u."""
    values = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    raw = model.features("image")[1:].double().numpy()
    f = (image - raw.mean(0)) / raw.std(0, ddof=1)
    visual = sum(values["user_visual.weight"][user][k] * (values["map"][k] @ f) for k in range(3))
    latent = values["user_embedding.weight"][user] @ values["item_embedding.weight"][item]
    return values["item_bias.weight"][item, 0] + latent + visual + values["picture_bias"] @ f


def test_preference_is_equation_4(drawn):
    images = drawn.features("image").double().numpy()
    everything = drawn.full_sort_predict(Interaction({"user_id": torch.tensor([3, 7])})).view(2, -1).detach()
    for row, user in enumerate((3, 7)):
        expected = [by_hand(drawn, user, item, images[item]) for item in range(1, drawn.n_items)]
        np.testing.assert_allclose(everything[row, 1:], expected, atol=1e-4)
    pairs = Interaction({"user_id": torch.tensor([3, 7]), "item_id": torch.tensor([5, 9])})
    np.testing.assert_allclose(drawn.predict(pairs).detach(), everything[[0, 1], [5, 9]], atol=1e-5)


def test_loss_is_equation_6_per_pair(drawn):
    users, positive, negative = [2, 2, 6], [1, 4, 8], [3, 3, 5]
    columns = {"user_id": users, "item_id": positive, "neg_item_id": negative}
    ranking, penalty = drawn.calculate_loss(
        Interaction({name: torch.tensor(ids) for name, ids in columns.items()})
    )
    images = drawn.features("image").double().numpy()
    margins = [
        by_hand(drawn, u, i, images[i]) - by_hand(drawn, u, j, images[j])
        for u, i, j in zip(users, positive, negative, strict=True)
    ]
    assert ranking.item() == pytest.approx(-np.mean(np.log(1 / (1 + np.exp(-np.array(margins))))), rel=1e-4)
    table = {name: value.detach().double().square() for name, value in drawn.state_dict().items()}
    rows = [
        table["user_embedding.weight"][u].sum() + table["user_visual.weight"][u].sum()
        + sum(table[name][item].sum() for item in (i, j) for name in ("item_embedding.weight", "item_bias.weight"))
        for u, i, j in zip(users, positive, negative, strict=True)
    ]  # fmt: skip
    whole = 0.2 * table["map"].sum() + 0.3 * table["picture_bias"].sum()
    assert penalty.item() == pytest.approx(float(0.1 * sum(rows) / 3 + whole) / 2, rel=1e-4)


@pytest.mark.parametrize("mode", ["exact", "own_row"])
def test_what_if_equals_putting_the_image_in(drawn, mode):
    generator = torch.Generator().manual_seed(5)
    users = torch.randint(1, drawn.n_users, (60,), generator=generator)
    items = torch.randint(1, drawn.n_items, (60,), generator=generator)
    images = torch.randn(60, 12, generator=generator) * 2
    what_if = scorer(drawn, mode)
    scores, ranks = what_if.score(users, items, images), what_if.rank(users, items, images)
    own, before = what_if.score_original(users, items), what_if.rank_original(users, items)
    for row, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        changed = copy.copy(drawn)  # shares parameters; its buffers are its own
        changed._buffers = dict(drawn._buffers)
        changed._buffers["features_image"] = drawn.features("image").clone()
        assert (own[row].item(), before[row].item()) == slow(changed, user, item)
        changed.features("image")[item] = images[row]
        score, rank = slow(changed, user, item)
        assert scores[row].item() == pytest.approx(score, abs=1e-4) and ranks[row].item() == rank


def slow(model, user: int, item: int) -> tuple[float, int]:
    """Score everything again and count what is above, the user's training items left out."""
    scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])})).detach()
    starts = model.history_starts
    seen = set(model.history_items[starts[user] : starts[user + 1]].tolist())
    others = [j for j in range(1, model.n_items) if j not in seen and j != item]
    return pytest.approx(scores[item].item(), abs=1e-4), int((scores[others] > scores[item]).sum())


def test_an_image_of_what_a_user_likes_scores_higher(build):
    """For any item, one's own history's mean image beats that of a user of another taste."""
    built = build("VBPR", users=60, items=120, per_user=12, epochs=30, stopping_step=30, learning_rate=0.02)
    built.trainer().fit(built.train, built.valid, saved=False, verbose=False)
    model = built.model.eval()
    users = torch.arange(1, model.n_users)
    own = torch.stack([raw_mean(model, user) for user in users.tolist()])
    items, what_if = torch.full((len(users),), 1), scorer(model)
    mine, theirs = (what_if.score(users, items, images) for images in (own, own.roll(1, 0)))
    assert (mine > theirs).float().mean() > 0.85


def raw_mean(model, user: int) -> torch.Tensor:
    return model.features("image")[
        model.history_items[model.history_starts[user] : model.history_starts[user + 1]]
    ].mean(0)


def test_run_recbole_runs_vbpr_to_a_test_result(tmp_path):
    settings = write_dataset(tmp_path, users=30, items=40, per_user=10)
    settings |= {"epochs": 4, "eval_step": 2, "checkpoint_dir": "saved"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    result = json.loads(run_script(tmp_path, SCRIPT.format(model="VBPR", saved=True)).removeprefix("RESULT "))
    assert set(result) == {"recall@10", "recall@20", "ndcg@10", "ndcg@20"}
    assert 0 < result["recall@20"] <= 1
