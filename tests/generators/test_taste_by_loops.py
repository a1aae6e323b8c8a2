"""The arithmetic of taste against plain loops and linear algebra written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from generators.common import ridge as r
from generators.taste import likes as l
from generators.taste import trust
from recgen.core.seeding import numpy_rng


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# (1) and (2)


def test_centring_leaves_one_item_out() -> None:
    scores = np.array([[1.0, 2.0, 6.0], [1.0, 2.0, 6.0], [4.0, 0.0, 2.0]], dtype=np.float32)
    expected = [[-2.0, -1.0, 3.0], [-2.5, -1.5, 2.5], [3.0, -1.0, 1.0]]
    np.testing.assert_allclose(
        r.centred(scores, np.array([-1, 0, 0])), [expected[0], [-3, -2, 2], expected[2]]
    )
    np.testing.assert_allclose(r.centred(scores), [[-2, -1, 3], [-2, -1, 3], [2, -2, 0]])
    assert r.centred(np.array([[5.0]], np.float32), np.array([0])).tolist() == [[5.0]]
    assert r.centred(np.array([[5.0, 2.0]], np.float32), np.array([0])).tolist() == [[3.0, 0.0]]
    assert r.centred(scores).dtype == np.float32


@pytest.mark.parametrize("items, noises", [(25, [0.3, 3.0, 30.0]), (8, np.logspace(-1, 2, 40))])
def test_the_strength_is_the_minimum_of_generalised_cross_validation(rng, items, noises) -> None:
    features = rng.normal(size=(items, 4)) @ np.diag([3.0, 1.0, 0.5, 0.0]) + 7.0
    grid = np.logspace(-4, 3, 15)
    x = features - features.mean(axis=0)
    for noise in noises:
        scores = r.centred(rng.normal(size=(3, 4)) @ features.T + noise * rng.normal(size=(3, items)))
        losses = []
        for strength in grid:
            gram = x.T @ x
            hat = x @ np.linalg.inv(gram + strength * np.trace(gram) / 4 * np.eye(4)) @ x.T
            rest = scores - scores @ hat
            losses.append((rest**2).sum() / (1 - (np.trace(hat) + 1) / items) ** 2)
        assert r.best_strength(features, scores) == pytest.approx(grid[int(np.argmin(losses))])


def test_the_strength_is_in_units_of_the_features(rng) -> None:
    features, scores = rng.normal(size=(20, 3)), rng.normal(size=(2, 20)).astype(np.float32)
    nobody = np.array([-1, -1])
    small = r.Ridge(1e-3 * features, 0.5).coefficients(scores, nobody)
    np.testing.assert_allclose(1e-3 * small, r.Ridge(features, 0.5).coefficients(scores, nobody), rtol=1e-4)


def test_the_first_item_is_left_out_like_any_other(rng) -> None:
    features, scores = rng.normal(size=(9, 2)), rng.normal(size=(1, 9)).astype(np.float32)
    changed = scores + np.eye(9, dtype=np.float32)[:1] * 30
    ridge = r.Ridge(features, 0.1)
    expected = ridge.coefficients(scores, np.array([0]))
    np.testing.assert_allclose(ridge.coefficients(changed, np.array([0])), expected, atol=1e-4)


@pytest.mark.parametrize("items", [3, 4, 9])
def test_sigma_counts_what_the_coefficients_have_used(rng, items) -> None:
    features, coefficients = rng.normal(size=(items, 3)), rng.normal(size=(2, 3))
    scores, x = rng.normal(size=(2, items)), features - features.mean(axis=0)
    expected = [
        np.sqrt(sum((y[i] - b @ x[i]) ** 2 for i in range(items)) / max(items - 3, 1))
        for y, b in zip(scores, coefficients, strict=True)
    ]
    np.testing.assert_allclose(r.Ridge(features, 1.0).sigma(scores, coefficients), expected, rtol=1e-5)


def test_features_that_are_all_alike_explain_nothing() -> None:
    scores = np.array([[1.0, -1.0, 0.0]], dtype=np.float32)
    ridge = r.Ridge(np.full((3, 2), 7.0), 1.0)
    assert not ridge.coefficients(scores, np.array([0])).any()
    np.testing.assert_allclose(ridge.residuals(scores, np.array([-1])), scores, atol=1e-6)
    with np.errstate(all="raise"):
        assert r.best_strength(np.full((3, 2), 7.0), scores) == pytest.approx(1e-4), "any will do: the least"


def test_an_item_that_alone_decides_a_coefficient_is_left_out_all_the_same() -> None:
    """Leverage 1: only the first item has the feature, so that without it nothing is known of it."""
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 2.0]])
    scores = np.array([[3.0, 1.0, -1.0, 2.0]], dtype=np.float32)
    found = r.Ridge(features, 1e-3).residuals(scores, np.array([0]))
    assert found[0, 0] == 0 and np.isfinite(found).all()


# (3) to (5)


def test_the_posterior_and_one_round_of_em(rng) -> None:
    users, p = 4, 3
    grams, products, squares, counts = [], [], [], []
    for n in (5, 0, 2, 9):
        x, y = rng.normal(size=(n, p)), (rng.random(n) < 0.5).astype(float)
        grams.append(x.T @ x), products.append(x.T @ y), squares.append(y @ y), counts.append(n)
    moments = l.Moments(*(np.array(each, dtype=float) for each in (grams, products, squares, counts)))
    root = rng.normal(size=(p, p))
    mu, sigma, noise = np.array([0.4, -0.1, 0.2]), root @ root.T + np.eye(p), 0.3
    population = l.Population(mu, sigma, noise)
    spreads = [np.linalg.inv(np.linalg.inv(sigma) + gram / noise) for gram in grams]
    means = [
        spread @ (np.linalg.inv(sigma) @ mu + product / noise)
        for spread, product in zip(spreads, products, strict=True)
    ]
    found = population.posterior(moments.grams, moments.products)
    np.testing.assert_allclose(found[0], means)
    np.testing.assert_allclose(found[1], spreads)
    centre = sum(means) / users
    covariance = (
        sum(v + np.outer(m - centre, m - centre) for v, m in zip(spreads, means, strict=True)) / users
    )
    errors = sum(
        square - 2 * m @ product + m @ gram @ m + np.trace(gram @ v)
        for square, m, product, gram, v in zip(squares, means, products, grams, spreads, strict=True)
    )
    better = l._improved(population, moments)
    np.testing.assert_allclose(better.mean, centre)
    np.testing.assert_allclose(better.covariance, covariance + 1e-6 * np.eye(p), rtol=1e-9)
    assert better.noise == pytest.approx(errors / 16)


def test_the_population_is_thirty_rounds_from_where_it_starts(rng) -> None:
    x = rng.normal(size=(6, 8, 2))
    y = (rng.random((6, 8)) < 0.7).astype(float)
    moments = l.Moments(
        np.einsum("unp,unq->upq", x, x), np.einsum("unp,un->up", x, y), y.sum(axis=1), np.full(6, 8.0)
    )
    rate = y.mean()
    found = l.Population(np.array([rate, 0.0]), 0.02 * np.eye(2), rate * (1 - rate))
    for _ in range(30):
        found = l._improved(found, moments)
    learned = l.learn_population(moments)
    np.testing.assert_allclose(learned.mean, found.mean)
    np.testing.assert_allclose(learned.covariance, found.covariance)
    assert learned.noise == pytest.approx(found.noise)


def test_a_population_that_likes_everything_has_the_least_noise() -> None:
    moments = l.Moments(np.full((2, 1, 1), 4.0), np.full((2, 1), 4.0), np.full(2, 4.0), np.full(2, 4.0))
    found = l.learn_population(moments)
    assert found.noise == 1e-3 and found.mean[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("users", [0, 2])
def test_without_encounters_nothing_is_learned(users) -> None:
    nothing = l.Moments(*(np.zeros(shape) for shape in ((users, 2, 2), (users, 2), users, users)))
    found = l.learn_population(nothing)
    assert found.mean.tolist() == [0, 0] and found.noise == 0.01
    np.testing.assert_allclose(found.covariance, 0.02 * np.eye(2))


def test_a_single_like_is_a_rate_of_one(monkeypatch) -> None:
    monkeypatch.setattr(l, "_ROUNDS", 0)
    one = l.Moments(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), np.ones(1))
    assert l.learn_population(one).mean.tolist() == [1.0]


def test_the_moments_of_users(rng) -> None:
    features = rng.normal(size=(30, 4)).astype(np.float32) @ np.diag([1, 1, 1, 0]).astype(np.float32)
    basis = l.Basis.of(features)
    rows = [
        (np.array([3, 7, 7]), np.array([True, False, True])),
        (np.array([], dtype=int), np.array([], dtype=bool)),
    ]
    found = l.Moments.of(basis, features, rows)
    x, y = basis.design(features)[[3, 7, 7]], np.array([1.0, 0.0, 1.0])
    np.testing.assert_allclose(found.grams, [x.T @ x, np.zeros((4, 4))])
    np.testing.assert_allclose(found.products, [x.T @ y, np.zeros(4)])
    assert found.squares.tolist() == [2.0, 0.0] and found.counts.tolist() == [3.0, 0.0]


def test_the_basis_is_the_principal_components_of_unit_variance(rng) -> None:
    features = rng.normal(size=(200, 5)) @ np.diag([5.0, 3.0, 1.0, 0.5, 1e-5]) + 2.0
    basis = l.Basis.of(features.astype(np.float32))
    design = basis.design(features)
    assert design.shape == (200, 5), "a constant, and four components: the fifth is noise"
    np.testing.assert_allclose(design[:, 0], 1.0)
    np.testing.assert_allclose(design[:, 1:].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(design[:, 1:], rowvar=False), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(basis.mean, features.mean(axis=0), atol=1e-5)
    correlations = (
        np.corrcoef(design[:, 1], features[:, 0])[0, 1],
        np.corrcoef(design[:, 2], features[:, 1])[0, 1],
    )
    assert min(np.abs(correlations)) > 0.98
    largest = np.abs(basis.directions).argmax(axis=0)
    assert (basis.directions[largest, np.arange(4)] > 0).all(), "the sign is fixed"
    many = l.Basis.of(rng.normal(size=(300, 40)).astype(np.float32)).directions
    assert many.shape == (40, 32) and (many[np.abs(many).argmax(axis=0), np.arange(32)] > 0).all()


def test_encounters_leave_out_what_has_no_image(data) -> None:
    found = l.Encounters.of(data)
    table = data.interactions[data.interactions["item"] != 0]
    assert found.users.tolist() == table["user"].tolist() and found.items.tolist() == table["item"].tolist()
    assert found.likes.tolist() == table["like"].tolist()
    assert l.has_image(data).tolist() == [False] + [True] * 29


def test_items_not_met_are_drawn_by_user(data) -> None:
    met = l.Encounters(np.array([2, 0, 0]), np.array([5, 6, 7]), np.array([True, True, True]))
    found = met.with_unmet(data)
    assert found.users.tolist() == [2, 0, 0, 0, 0, 2] and found.likes.tolist() == [True] * 3 + [False] * 3
    drawn = {0: found.items[3:5].tolist(), 2: found.items[5:].tolist()}
    for user, items in ((0, [6, 7]), (2, [5])):
        assert len(set(drawn[user])) == len(items) and not {0, *items} & set(drawn[user]), (
            "item 0 has no image"
        )
    alone = l.Encounters(np.array([2]), np.array([5]), np.array([True])).with_unmet(data)
    assert alone.items[1:].tolist() == drawn[2], "other users change nothing"
    others = [met.with_unmet(replace(data, run_seed=seed)).items[3:].tolist() for seed in range(300)]
    assert set(np.ravel(others).tolist()) == set(range(1, 30)) and found.items[3:].tolist() in others
    most = l.Encounters(np.zeros(20, dtype=int), np.arange(1, 21), np.ones(20, dtype=bool)).with_unmet(data)
    assert sorted(most.items[20:].tolist()) == list(range(21, 30))


def test_encounters_by_user_and_without_others() -> None:
    mixed = l.Encounters(np.array([3, 1, 3, 1]), np.array([9, 8, 7, 6]), np.array([True, False, False, True]))
    grouped = {user: (items.tolist(), likes.tolist()) for user, (items, likes) in mixed.by_user().items()}
    assert grouped == {1: ([8, 6], [False, True]), 3: ([9, 7], [True, False])}
    assert [user in mixed.by_user() for user in range(5)] == [False, True, False, True, False]
    other = l.Encounters(np.array([3, 0, 1]), np.array([7, 38, 9]), np.array([True] * 3))
    rest = mixed.without(other)
    assert list(zip(rest.users, rest.items, rest.likes, strict=True)) == [
        (3, 9, True),
        (1, 8, False),
        (1, 6, True),
    ]
    pairs = l.Encounters(np.array([1, 0]), np.array([0, 9]), np.array([True, True]))
    kept = pairs.without(l.Encounters(np.array([0]), np.array([10]), np.array([True])))
    assert kept.items.tolist() == [0, 9], "user 1 with item 0 is not user 0 with item 10"
    last = l.Encounters(np.array([1, 0]), np.array([9, 10]), np.array([True, True]))
    assert len(last.without(l.Encounters(np.array([0]), np.array([0]), np.array([True]))).users) == 2
    nothing = l.Encounters(np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))
    assert nothing.by_user() == {} and pairs.without(nothing).items.tolist() == [0, 9]
    assert len(nothing.without(pairs).users) == 0


def test_a_sample_of_users_is_drawn_by_the_run(data) -> None:
    users = [5, 3, 8, 1]
    assert l.sample_of_users(users, data, "s", at_most=4) == [1, 3, 5, 8]
    assert l.sample_of_users(users, data, "s", at_most=5) == [1, 3, 5, 8]
    drawn = numpy_rng(5, "s").choice(np.array([1, 3, 5, 8]), size=3, replace=False)
    assert l.sample_of_users(users, data, "s", at_most=3) == sorted(drawn.tolist())
    assert len(l.sample_of_users(list(range(2001)), data, "s")) == 2000


# (6)


def negative_log_likelihood(weights: np.ndarray, values: np.ndarray, likes: np.ndarray) -> float:
    """Of a logistic regression with an intercept, the last weight; the others are penalised."""
    logits = values @ weights[:-1] + weights[-1]
    return float(np.logaddexp(0, np.where(likes, -logits, logits)).sum() + (weights[:-1] ** 2).sum() / 2)


def test_the_penalised_regression_is_the_minimum_that_scipy_finds(rng) -> None:
    values, likes = rng.normal(size=(60, 2)), rng.random(60) < 0.7
    expected = minimize(negative_log_likelihood, np.zeros(3), (values, likes), tol=1e-12)
    loss, weights = trust.logistic(values, likes)
    np.testing.assert_allclose(weights, expected.x[:2], atol=1e-5)
    assert loss == pytest.approx(expected.fun, abs=1e-4)
    without = trust.logistic(np.zeros((60, 0)), likes)
    share = likes.mean()
    assert without[0] == pytest.approx(
        -60 * (share * np.log(share) + (1 - share) * np.log(1 - share)), abs=1e-4
    )


def test_the_penalty_decides_where_there_are_few_likes() -> None:
    values, likes = np.array([[3.0], [1.0], [-1.0], [-2.0]]), np.array([True, True, False, False])
    expected = minimize(negative_log_likelihood, np.zeros(2), (values, likes), tol=1e-12)
    np.testing.assert_allclose(trust.logistic(values, likes)[1], expected.x[:1], atol=1e-4)


@pytest.mark.parametrize("weak", [0.1, -0.1])
def test_sources_that_contradict_are_left_out_the_worst_first(rng, weak) -> None:
    """Weights are those of the sources that remain, in the units of each; one that never varies weighs nothing."""
    values = np.c_[rng.normal(size=(2_000, 2)), np.full(2_000, 3.0), 5.0 * rng.normal(size=2_000)]
    logits = 1.2 * values[:, 0] - 1.5 * values[:, 1] + weak * values[:, 3]
    likes = rng.random(2_000) < 1 / (1 + np.exp(-logits))
    loss, weights = trust._without_negative(values, likes)
    kept = [0, 3] if weak > 0 else [0]
    assert np.flatnonzero(weights).tolist() == kept and (weights >= 0).all()
    scales = values[:, kept].std(axis=0)
    direct_loss, direct = trust.logistic(values[:, kept] / scales, likes)
    assert loss == pytest.approx(direct_loss)
    np.testing.assert_allclose(weights[kept], direct / scales)


def test_trust_is_fitted_under_the_likeliest_half_trust(rng) -> None:
    counts = rng.choice([0.0, 1.0, 4.0, 40.0], 3_000)
    sources = rng.normal(size=(3_000, 3))
    for half_trust in (0.0, 5.0, 20.0):
        logits = 4 * sources[:, 0] * counts / np.maximum(counts + half_trust, 1) + sources[:, 1]
        likes = rng.random(3_000) < 1 / (1 + np.exp(-logits))
        found = trust.fit_trust(sources, counts, likes)
        assert found.half_trust == half_trust and found.encounters == 3_000
        scaled = sources.copy()
        scaled[:, 0] *= counts / np.maximum(counts + half_trust, 1)
        _, weights = trust._without_negative(scaled, likes)
        np.testing.assert_allclose([found.reward, found.likes, found.everybody], weights)
    assert trust.fit_trust(sources, counts, np.ones(3_000, bool)) is trust.OWN_LIKES
    assert trust.fit_trust(sources, counts, np.zeros(3_000, bool)) is trust.OWN_LIKES
    assert trust.OWN_LIKES.as_json() == {
        "reward": 0.0, "likes": 1.0, "everybody": 0.0, "half_trust": 0.0, "encounters": 0
    }  # fmt: skip


def test_trust_in_users_of_few_encounters() -> None:
    found = trust.Trust(2.0, 1.0, 1.0, 5.0, 9).of_user(np.array([0.0, 1.0, 5.0, 15.0]))
    np.testing.assert_allclose(found, [0, 1 / 6, 0.5, 0.75])
    np.testing.assert_allclose(
        trust.Trust(2.0, 1.0, 1.0, 0.0, 9).of_user(np.array([0.0, 0.5, 3.0])), [0, 0.5, 1]
    )
    parts = trust.Trust(2.0, 1.0, 1.0, 0.0, 9).parts(
        np.ones((2, 1), np.float32),
        np.ones((2, 1), np.float32),
        np.zeros(1, np.float32),
        np.array([0.0, 1.0]),
    )
    assert parts["reward"].tolist() == [[0.0], [2.0]]


def test_the_parts_of_a_score(rng) -> None:
    believed = trust.Trust(2.0, 0.5, 3.0, 10.0, 1)
    reward, likes = rng.normal(size=(2, 4)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)
    everybody = np.arange(4, dtype=np.float32)
    parts = believed.parts(reward, likes, everybody, np.array([10.0, 0.0]))
    np.testing.assert_allclose(
        believed.combine(parts), [reward[0] - everybody + 0.5 * likes[0] + 3 * everybody, 0.5 * likes[1] + 3 * everybody],
        rtol=1e-5,
    )  # fmt: skip


# (7) and words
