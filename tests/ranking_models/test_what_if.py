"""What-if scores against the slow way: put the image in, rebuild the graphs, score everything again."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dense_micro import DenseMicro
from small_dataset import Built, write_dataset, write_features

from ranking_models.what_if import scorer
from recgen.core.errors import UserError

ITEMS, DIM = 260, 12


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A MICRO whose images have hubs, duplicates (more than k) and items without one; trained for a moment."""
    folder = tmp_path_factory.mktemp("crowded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(folder)
        settings = write_dataset(folder, users=40, items=ITEMS, per_user=20, dim=DIM)
        rng = np.random.default_rng(1)
        centres = rng.normal(size=(5, DIM))
        rows = centres[rng.integers(0, 5, ITEMS)] + 0.5 * rng.normal(size=(ITEMS, DIM))
        rows[:5] = centres  # hubs: near everything in their cluster
        rows[20:36] = rows[20]  # sixteen items share an image
        rows[40:43] = rows[40]
        tokens = [f"i{item}" for item in range(ITEMS - 25)]  # 25 items have none: they share the mean
        write_features(folder / "image.safetensors", tokens, rows[: ITEMS - 25])
        built = Built(
            "MICRO",
            {**settings, "embedding_size": 16, "train_batch_size": 128, "learning_rate": 0.01, "epochs": 3},
        )
        built.trainer().fit(built.train, saved=False, verbose=False)
    return built


def slow_scores(model, item: int, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Users and items after the image was put in and every graph rebuilt."""
    changed = copy.copy(model)  # shares parameters; its buffers are its own
    changed._buffers = dict(model._buffers)
    changed._buffers["features_image"] = model.features("image").clone()
    changed.features("image")[item] = embedding
    changed._keep_fixed_graph("image")
    changed._evaluated = None
    return changed.final()


def requests(model, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random users and items; images that are new, another item's, a mixture, a hub's, or unchanged."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(1, model.n_users, (n,), generator=generator)
    items = torch.randint(1, model.n_items, (n,), generator=generator)
    raw = model.features("image")
    others = raw[torch.randint(1, model.n_items, (n,), generator=generator)]
    noise = torch.randn(n, raw.shape[1], generator=generator)
    kinds = [
        noise,
        others,
        0.5 * others + 0.5 * raw[items],
        others + 0.3 * noise,
        raw[items],
        raw[1:].mean(0).expand(n, -1),
    ]
    images = torch.stack(kinds)[torch.arange(n) % len(kinds), torch.arange(n)]
    return users, items, images


def slow_rank(model, users, vectors, user: int, item: int) -> tuple[float, int, int]:
    """Score, and the lowest and highest rank that scores equal to 1e-5 allow."""
    scores = vectors @ users[user]
    target = scores[item].item()
    starts = model.history_starts
    seen = model.history_items[starts[user] : starts[user + 1]]
    scores[0] = scores[seen] = scores[item] = -torch.inf
    return target, int((scores > target + 1e-5).sum()), int((scores > target - 1e-5).sum())


def test_exact_equals_the_slow_way_on_500_requests(crowded):
    model = crowded.model.eval()
    users, items, images = requests(model, 500)
    what_if = scorer(model, "exact")
    scores, ranks = what_if.score(users, items, images), what_if.rank(users, items, images)
    originals = what_if.rank_original(users, items)
    ties = 0
    for row in range(500):
        new_users, new_items = slow_scores(model, int(items[row]), images[row])
        score, low, high = slow_rank(model, new_users, new_items, int(users[row]), int(items[row]))
        assert abs(scores[row].item() - score) < 1e-4, f"request {row}, item {int(items[row])}"
        assert low <= ranks[row].item() <= high, f"request {row}, item {int(items[row])}"
        ties += low != high
    assert (
        ties < 25 and (ranks != originals).sum() > 100
    )  # the comparison is sharp, and images do change ranks


def test_every_items_vector_equals_the_slow_way(crowded):
    model = crowded.model.eval()
    users, items, images = requests(model, 60, seed=3)
    what_if = scorer(model, "exact")
    scores, ranks = what_if.score(users, items, images), what_if.rank(users, items, images)
    with torch.no_grad():
        request, row, final = what_if._moved_items(items, images, targets_only=False)
    touched = 0
    for position in range(60):
        new_users, expected = slow_scores(model, int(items[position]), images[position])
        score, low, high = slow_rank(model, new_users, expected, int(users[position]), int(items[position]))
        assert abs(scores[position].item() - score) < 1e-4 and low <= ranks[position].item() <= high
        vectors = what_if.items.clone()
        vectors[row[request == position]] = final[request == position]
        torch.testing.assert_close(vectors[1:], expected[1:], atol=1e-5, rtol=0)
        touched += int((request == position).sum())
    assert touched > 60 * 11  # the ripple reaches beyond the item and its neighbours


def test_exact_equals_the_dense_specification(build):
    built = build(embedding_size=8, knn_k=4)
    model = built.model.eval()
    inter = built.train._dataset.inter_feat
    pairs = list(zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True))
    users, items, images = requests(model, 40)
    fresh = torch.arange(40) % 6 != 1  # torch.topk settles ties between duplicates in an order of its own
    users, items, images = users[fresh], items[fresh], images[fresh]
    scores = scorer(model).score(users, items, images)
    dense = DenseMicro(model, pairs)
    raw = dense.features["image"].clone()
    for user, item, image, score in zip(users, items, images, scores, strict=True):
        dense.features["image"] = raw.clone()
        dense.features["image"][item - 1] = image.double()
        dense_users, dense_items, _, _ = dense.forward()
        assert abs((dense_users[user] @ dense_items[item - 1]).item() - score.item()) < 1e-4


@pytest.mark.parametrize("k", [1, 2])
def test_exact_equals_the_slow_way_with_hardly_any_neighbours(build, k):
    model = build(embedding_size=8, knn_k=k).model.eval()
    users, items, images = requests(model, 12)
    what_if = scorer(model, "exact")
    scores, ranks = what_if.score(users, items, images), what_if.rank(users, items, images)
    for row in range(12):
        new_users, new_items = slow_scores(model, int(items[row]), images[row])
        score, low, high = slow_rank(model, new_users, new_items, int(users[row]), int(items[row]))
        assert abs(scores[row].item() - score) < 1e-4 and low <= ranks[row].item() <= high


def test_results_do_not_depend_on_the_batch(crowded):
    model = crowded.model.eval()
    users, items, images = requests(model, 30, seed=5)
    what_if = scorer(model)
    together = what_if.score(users, items, images)
    alone = torch.cat(
        [what_if.score(users[i : i + 1], items[i : i + 1], images[i : i + 1]) for i in range(30)]
    )
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    ranks = torch.cat(
        [what_if.rank(users[i : i + 1], items[i : i + 1], images[i : i + 1]) for i in range(30)]
    )
    assert torch.equal(what_if.rank(users, items, images), ranks)
    assert what_if.score(users[:0], items[:0], images[:0]).shape == (0,)


def test_the_items_own_image_changes_nothing(crowded):
    model = crowded.model.eval()
    users, items, _ = requests(model, 100, seed=7)
    own = model.features("image")[items]
    for mode in ("exact", "own_row"):
        what_if = scorer(model, mode)
        torch.testing.assert_close(
            what_if.score(users, items, own), what_if.score_original(users, items), atol=1e-5, rtol=0
        )
        assert torch.equal(what_if.rank(users, items, own), what_if.rank_original(users, items))


def test_original_scores_and_ranks_are_the_models_own(crowded):
    model = crowded.model.eval()
    users, items, _ = requests(model, 50, seed=9)
    what_if = scorer(model)
    vectors_u, vectors_i = model.final()
    torch.testing.assert_close(
        what_if.score_original(users, items), (vectors_u[users] * vectors_i[items]).sum(1)
    )
    for user, item, rank in zip(
        users.tolist(), items.tolist(), what_if.rank_original(users, items).tolist(), strict=True
    ):
        _, low, high = slow_rank(model, vectors_u, vectors_i, user, item)
        assert low <= rank <= high


def test_own_row_leaves_out_only_the_ripple(crowded):
    """The item's new neighbours are right; degrees and other rows are not renewed, which moves a rank a little."""
    model = crowded.model.eval()
    users, items, images = requests(model, 300, seed=11)
    exact, own = scorer(model, "exact"), scorer(model, "own_row")
    with torch.no_grad():
        request, row, _ = own._moved_items(items, images, targets_only=False)
    assert torch.equal(request, torch.arange(300)) and torch.equal(row, items)
    exact_ranks, own_ranks = exact.rank(users, items, images), own.rank(users, items, images)
    moved = (exact_ranks - exact.rank_original(users, items)).abs().float().mean()
    apart = (exact_ranks - own_ranks).abs().float().mean()
    assert 0 < apart < 0.25 * moved


def test_a_model_that_cannot_be_asked_says_so(build):
    for settings in ({"item_layers": 2}, {"trainable_features": True}):
        with pytest.raises(UserError, match=next(iter(settings))):
            scorer(build(embedding_size=8, **settings).model)
    what_if = scorer(build(embedding_size=8).model)
    one = torch.tensor([1])
    with pytest.raises(UserError, match="what-if embeddings"):
        what_if.score(one, one, torch.zeros(1, 5))
    with pytest.raises(UserError, match="item id"):
        what_if.score(one, torch.tensor([0]), torch.zeros(1, 12))
    with pytest.raises(UserError, match="mode"):
        scorer(what_if.model, "fast")
