"""The verifier: a known answer, the paper's form, labels and sampled negatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from sklearn.metrics import roc_auc_score
from small_dataset import Built, write_dataset, write_features

from ranking_models.what_if import scorer
from recgen.core.errors import UserError

USERS, ITEMS, SEEN, TASTES, DIM = 250, 260, 200, 3, 24


def simulate(folder) -> tuple[dict, np.ndarray]:
    """Users of `TASTES` hidden dimensions rate images of a linear embedding; return settings and the true logits."""
    rng = np.random.default_rng(3)
    looks = rng.normal(size=(ITEMS, 12))
    taste = (rng.normal(size=(USERS, TASTES)) + 0.4) @ rng.normal(size=(TASTES, 12)) * 0.35
    truth = taste @ looks.T + rng.normal(size=(USERS, 1)) * 0.5 - 0.6
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(USERS):
        for item in rng.choice(ITEMS, SEEN, replace=False):
            like = rng.random() < 1 / (1 + np.exp(-truth[user, item]))
            lines.append(f"u{user}\ti{item}\t{5 if like else 1}\t0")
    (folder / "tiny" / "tiny.inter").write_text("\n".join(lines))
    images = 3 + looks @ rng.normal(size=(12, DIM)) * np.geomspace(1, 20, DIM)
    write_features(folder / "image.safetensors", [f"i{i}" for i in range(ITEMS)], images)
    return {"item_features": {"image": str(folder / "image.safetensors")}}, truth


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(folder)
        settings = write_dataset(folder, 2, 20, 5)
        own, truth = simulate(folder)
        data = {key: settings[key] for key in ("data_path", "checkpoint_dir", "show_progress", "use_gpu")}
        built = Built("Verifier", {**data, **own})
        trainer = built.trainer()
        trainer.fit(built.train, built.valid, saved=False, verbose=False)
    return built, truth, trainer


def test_held_out_auc_comes_within_three_points_of_the_true_taste(trained):
    built, truth, trainer = trained
    held = built.test.dataset.inter_feat
    users, items = held["user_id"], held["item_id"]
    tokens = built.dataset.field2id_token
    rows = [int(tokens["user_id"][u][1:]) for u in users.tolist()]
    columns = [int(tokens["item_id"][i][1:]) for i in items.tolist()]
    label = held["label"].numpy()
    best_possible = roc_auc_score(label, truth[rows, columns])
    reached = trainer.evaluate(built.test, load_best_model=False)["auc"]
    assert reached == pytest.approx(roc_auc_score(label, built.model.predict(held).detach()), abs=1e-3)
    assert best_possible > 0.75
    assert reached > best_possible - 0.03, f"{reached} against {best_possible}"


def test_what_if_is_the_product_of_the_paper(trained):
    built, truth, _ = trained
    model = built.model.eval()
    users, items = torch.tensor([5, 9, 9]), torch.tensor([1, 2, 3])
    images = torch.randn(3, DIM) * 10
    what_if = scorer(model)
    phi = np.hstack([model.user_embedding.weight[users].detach().numpy(), np.ones((3, 1))])
    raw = model.features("image")
    standard = (images.numpy() - raw[1:].mean(0).numpy()) / raw[1:].std(0).numpy()
    logits = np.einsum("bd,de,be->b", phi, model.map.detach().numpy(), np.hstack([standard, np.ones((3, 1))]))
    np.testing.assert_allclose(what_if.score(users, items, images), logits, atol=1e-4)
    everything = model.full_sort_predict(Interaction({"user_id": users})).view(3, -1).detach()
    np.testing.assert_allclose(
        what_if.score_original(users, items).sigmoid(), everything[range(3), items], atol=1e-6
    )
    for row in range(3):
        seen = set(
            model.history_items[
                model.history_starts[users[row]] : model.history_starts[users[row] + 1]
            ].tolist()
        )
        others = [j for j in range(1, ITEMS + 1) if j not in seen and j != items[row]]
        own, new = everything[row, items[row]], 1 / (1 + np.exp(-logits[row]))
        assert what_if.rank_original(users, items)[row] == (everything[row, others] > own).sum()
        assert what_if.rank(users, items, images)[row] == (everything[row, others] > new).sum()


def test_an_image_of_what_a_user_likes_scores_higher(trained):
    built, truth, _ = trained
    model, tokens = built.model.eval(), built.dataset.field2id_token
    item_of = {int(token[1:]): i for i, token in enumerate(tokens["item_id"]) if i}
    raw, what_if, better = model.features("image"), scorer(model), 0
    for user in range(1, 101):
        order = np.argsort(truth[int(tokens["user_id"][user][1:])])
        images = raw[[item_of[order[-1]], item_of[order[0]]]]
        loved, hated = what_if.score(torch.tensor([user, user]), torch.tensor([1, 1]), images)
        better += bool(loved > hated)
    assert better > 90


def test_the_differentiable_score_is_the_score_and_its_gradient_the_slope(trained):
    model = trained[0].model.eval()
    what_if, users, items = scorer(model), torch.tensor([3, 5]), torch.tensor([2, 7])
    images = model.features("image")[[4, 9]].clone().requires_grad_(True)
    value = what_if.differentiable(users, items)(images)
    torch.testing.assert_close(value.detach(), what_if.score(users, items, images.detach()))
    value.sum().backward()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    up, down = (what_if.score(users, items, images.detach() + step * direction) for step in (1e-2, -1e-2))
    slope = (images.grad * direction).sum(1)
    torch.testing.assert_close(slope, (up - down) / 2e-2, rtol=0.05, atol=0.02)


def test_sampled_negatives_do_where_nothing_is_labelled(build):
    implicit = {"threshold": None, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    ranking = {"metrics": ["Recall"], "topk": [10], "valid_metric": "Recall@10"}
    built = build(
        "Verifier", users=60, items=60, per_user=12, **implicit, **ranking, epochs=15, learning_rate=0.02
    )
    _, valid = built.trainer().fit(built.train, built.valid, saved=False, verbose=False)
    assert (
        valid["recall@10"] > 10 / 60 * 1.5
    )  # chance is about 10 / 60: users stay within their cluster of images


def test_nothing_to_learn_from_says_so(build):
    with pytest.raises(UserError, match="threshold"):
        build("Verifier", threshold=None, metrics=["Recall"], topk=[10], valid_metric="Recall@10")


def test_items_without_an_image_do_not_bend_the_standardisation(build, tmp_path):
    whole = build("Verifier", eval_args={"mode": "labeled"})
    before = whole.model.standard.deviation.clone()
    tokens = (tmp_path / "image.ids.txt").read_text().splitlines()
    rows = whole.model.features("image")[[whole.dataset.token2id("item_id", token) for token in tokens]]
    half = write_dataset(tmp_path, 20, 25, 8)
    write_features(tmp_path / "image.safetensors", tokens[:13], rows[:13].numpy())
    model = Built("Verifier", {**half, "eval_args": {"mode": "labeled"}}).model
    assert (
        model.standard.deviation / before
    ).min() > 0.5  # 12 copies of the mean would have halved the variance and more
