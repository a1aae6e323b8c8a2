"""The numbered steps of taste, each against an answer that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from generators.common.ridge import Ridge, best_strength, centred
from generators.taste.catalogue import Catalogue, Group
from generators.taste.kept import Strength, Tried, around, candidates, choose
from generators.taste.likes import Basis, Encounters, Moments, Population, learn_population
from generators.taste.shown import Looks, Word, best_words, prompt, top_image, unnamed
from generators.taste.trust import fit_trust, logistic
from recgen.diffusion.sampling import Sampling

NOBODY = np.array([-1])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


# (1) and (2)


def test_what_texts_explain_is_taken_out(rng) -> None:
    texts, style = rng.normal(size=(200, 5)), rng.normal(size=200)
    scores = centred((texts @ rng.normal(size=5) + style)[None]).astype(np.float32)
    rest = Ridge(texts, 1e-4).residuals(scores, NOBODY)[0]
    assert np.abs(np.corrcoef(rest, texts.T)[0, 1:]).max() < 0.01
    assert np.corrcoef(rest, style)[0, 1] > 0.95


def test_leaving_out_is_solving_without_the_item(rng) -> None:
    features, scores = rng.normal(size=(40, 6)), centred(rng.normal(size=(3, 40))).astype(np.float32)
    ridge, items = Ridge(features, 0.3), np.array([5, 17, -1])
    changed = scores.copy()
    changed[0, 5], changed[1, 17] = 30, -12
    np.testing.assert_allclose(
        ridge.coefficients(changed, items), ridge.coefficients(scores, items), rtol=1e-3, atol=1e-4
    )
    x = ridge.features.astype(np.float64)
    gram = x.T @ x
    penalty = 0.3 * np.trace(gram) / 6 * np.eye(6)
    rest = np.delete(np.arange(40), 5)
    others = scores[0, rest] - scores[0, rest].mean()
    direct = np.linalg.solve(x[rest].T @ x[rest] + penalty, x[rest].T @ others)
    np.testing.assert_allclose(ridge.coefficients(scores, items)[0], direct, rtol=1e-3, atol=1e-4)
    assert ridge.residuals(changed, items)[0, 5] == 0 and ridge.residuals(changed, items)[1, 17] == 0
    np.testing.assert_allclose(ridge.residuals(changed, items), ridge.residuals(scores, items), atol=1e-4)


def test_noise_is_shrunk_more_than_signal(rng) -> None:
    features = rng.normal(size=(60, 30))
    signal = centred(rng.normal(size=(4, 30)) @ features.T)
    assert best_strength(features, signal) < 0.01
    assert best_strength(features, centred(rng.normal(size=(4, 60)))) >= 1


# (3) to (5)


def world(rng, users: int, encounters: int, spread: np.ndarray):
    """Users whose liking follows the first components of 400 images, as far as `spread` says."""
    features = rng.normal(size=(400, 6)).astype(np.float32)
    basis = Basis.of(features)
    design = basis.design(features)
    coefficients = rng.normal(size=(users, 7)) * spread
    coefficients[:, 0] = 0.5
    rows = []
    for each in coefficients:
        items = rng.choice(400, encounters, replace=False)
        rows.append((items, rng.random(encounters) < np.clip(design[items] @ each, 0.02, 0.98)))
    return features, basis, coefficients, rows


def test_the_population_learns_in_what_people_differ(rng) -> None:
    spread = np.array([0, 0.2, 0, 0, 0, 0, 0])
    features, basis, _, rows = world(rng, 400, 30, spread)
    found = learn_population(Moments.of(basis, features, rows))
    differ = np.sqrt(np.diag(found.covariance))[1:]
    assert abs(differ[0] - 0.2) < 0.05 and differ[1:].max() < 0.07
    assert abs(found.mean[0] - 0.5) < 0.03 and 0.15 < found.noise < 0.26


def test_few_likes_say_more_under_what_everybody_has_in_common(rng) -> None:
    """The posterior under the learned population is closer to the truth than under one that takes all directions for alike."""
    features, basis, truth, rows = world(rng, 400, 15, np.array([0, 0.2, 0.1, 0, 0, 0, 0]))
    moments = Moments.of(basis, features, rows)
    learned = learn_population(moments)
    alike = Population(learned.mean, np.eye(7) * np.trace(learned.covariance) / 7, learned.noise)
    errors = [
        ((each.posterior(moments.grams, moments.products)[0] - truth) ** 2).mean()
        for each in (learned, alike)
    ]
    assert errors[0] < 0.75 * errors[1]


def test_nobody_gets_the_mean_and_many_likes_get_their_own_regression(rng) -> None:
    features, basis, _, rows = world(rng, 2, 300, np.full(7, 0.1))
    population = Population(np.full(7, 0.03), np.eye(7) * 0.05, 0.2)
    empty = (np.zeros(0, np.int64), np.zeros(0, bool))
    means, _ = population.posterior(*_moments(basis, features, [empty, *rows]))
    np.testing.assert_allclose(means[0], population.mean, atol=1e-9)
    items, likes = rows[0]
    own = np.linalg.lstsq(basis.design(features[items]), likes.astype(float), rcond=None)[0]
    np.testing.assert_allclose(means[1], own, atol=0.03)


def _moments(basis, features, rows):
    found = Moments.of(basis, features, rows)
    return found.grams, found.products


def test_likes_alone_are_held_against_items_not_met(data) -> None:
    table = data.interactions[data.interactions["like"]]
    found = Encounters.of(replace(data, interactions=table)).by_user()
    mine = set(table.loc[table["user"] == 3, "item"]) - {0}
    items, likes = found[3]
    assert set(items[likes].tolist()) == mine
    assert (~likes).sum() == min(len(mine), 29 - len(mine)) and not set(items[~likes].tolist()) & mine
    both = Encounters.of(data)
    assert len(both.users) == (data.interactions["item"] != 0).sum()


def test_encounters_held_out_are_taken_away_pair_by_pair() -> None:
    all_ = Encounters(np.array([0, 0, 1, 1]), np.array([4, 7, 4, 7]), np.array([True, False, True, True]))
    rest = all_.without(Encounters(np.array([0, 1]), np.array([7, 4]), np.array([True, True])))
    assert list(zip(rest.users, rest.items, strict=True)) == [(0, 4), (1, 7)]


# (6)


def test_each_source_is_believed_as_far_as_it_tells(rng) -> None:
    sources = rng.normal(size=(20_000, 3))
    likes = rng.random(20_000) < expit(sources @ [1.5, 0.5, 0.0] - 0.4)
    trust = fit_trust(sources, np.full(20_000, 30.0), likes)
    assert abs(trust.reward - 1.5) < 0.08 and abs(trust.likes - 0.5) < 0.06
    assert trust.everybody < 0.05 and trust.half_trust == 0 and trust.encounters == 20_000


def test_a_source_that_contradicts_is_not_believed(rng) -> None:
    sources = rng.normal(size=(5_000, 3))
    likes = rng.random(5_000) < expit(-sources[:, 0] + sources[:, 1])
    trust = fit_trust(sources, np.full(5_000, 30.0), likes)
    assert trust.reward == 0 and abs(trust.likes - 1) < 0.2


def test_users_of_short_histories_are_told_less_by_the_reward(rng) -> None:
    counts = rng.choice([2.0, 200.0], 20_000)
    sources = rng.normal(size=(20_000, 3))
    likes = rng.random(20_000) < expit(sources[:, 0] * 2 * counts / (counts + 20))
    trust = fit_trust(sources, counts, likes)
    assert trust.half_trust == 20
    few, many, none = trust.of_user(np.array([2.0, 200.0, 0.0]))
    assert few == pytest.approx(1 / 11) and many == pytest.approx(10 / 11) and none == 0


def test_the_regression_is_at_its_minimum(rng) -> None:
    values, likes = rng.normal(size=(300, 2)), rng.random(300) < 0.4
    loss, weights = logistic(values, likes)
    for step in np.eye(2) * 0.05:
        for sign in (-1, 1):
            assert _loss(values, likes, weights + sign * step) > loss


def _loss(values, likes, weights) -> float:
    intercepts = np.linspace(-2, 2, 4001)
    logits = values @ weights
    signed = np.where(likes, -1, 1)[:, None] * (logits[:, None] + intercepts)
    return float(np.logaddexp(0, signed).sum(axis=0).min() + (weights**2).sum() / 2)


# (7) and words


GROUPS = [
    Group("thing", ["rocket", "skull"], ["{}"], False),
    Group("hue", ["red", "blue", "green"], ["{}"], True),
]


def catalogue(tags: np.ndarray, images: np.ndarray) -> Catalogue:
    indicators = np.hstack([tags[:, [0]] == np.arange(2), tags[:, [1]] == np.arange(3)]).astype(np.float32)
    n = len(tags)
    return Catalogue(np.arange(n), [f"i{row}" for row in range(n)], images, images, tags, indicators)


def test_the_word_is_the_styles_and_content_is_controlled_for(rng) -> None:
    """Rockets are liked and most rockets are red: but blue is what is liked of rockets and skulls alike."""
    tags = np.stack([rng.integers(0, 2, 600), np.zeros(600, int)], axis=1)
    tags[:, 1] = np.where((tags[:, 0] == 0) & (rng.random(600) < 0.7), 0, rng.integers(0, 3, 600))
    scores = centred((3.0 * (tags[:, 0] == 0) + 1.0 * (tags[:, 1] == 1))[None]).astype(np.float32)
    found = catalogue(tags, rng.normal(size=(600, 4)).astype(np.float32))
    ridge = Ridge(found.indicators, 1e-3)
    coefficients = ridge.coefficients(scores, NOBODY)[0]
    (word,) = best_words(coefficients, coefficients * 0.25, 0.1, found, GROUPS)
    share = (tags[:, 1] == 1).mean()
    assert (word.group, word.phrase) == ("hue", "blue")
    assert word.gain == pytest.approx(1 - share, abs=0.02) and word.everybody == pytest.approx(
        0.25 * word.gain
    )
    naive = [scores[0, tags[:, 1] == hue].mean() for hue in range(3)]
    assert np.argmax(naive) == 0  # what a mean per word, without control for content, would have said


def test_a_word_that_the_text_names_is_left_alone() -> None:
    words = [Word("hue", "blue", 0.2, 0.3)]
    assert unnamed(words, "a predator", GROUPS) == words
    assert unnamed(words, "a Green dress", GROUPS) == []


def test_the_style_is_the_weighted_mean_of_the_best() -> None:
    styles = np.array([[1, 0], [0, 1], [5, 5], [0, 9]], dtype=np.float32)
    looks = Looks(np.array([1.0, 1.0]), np.zeros(1), np.zeros((1, 2)), styles, 1.0)
    shown = top_image(np.array([3.0, 1.0, 9.0, -1.0]), np.array([1.0, 1.0, 0, 0]), looks, 2, left_out=2)
    assert shown.items.tolist() == [0, 1] and shown.weights.tolist() == [0.75, 0.25]
    np.testing.assert_allclose(shown.style, np.array([0.75, 0.25]) / np.hypot(0.75, 0.25), rtol=1e-6)
    assert (shown.everybody, shown.own) == (1.0, 1.5)
    flat = top_image(np.array([-1.0, -1.0, 0, -2.0]), np.zeros(4), looks, 2, left_out=2)
    np.testing.assert_allclose(flat.style, [0.5**0.5, 0.5**0.5], rtol=1e-6)


def test_a_long_text_gives_way_to_the_words() -> None:
    def fits(text: str) -> bool:
        return len(text.split()) <= 5

    assert prompt("{text}, {words}", "a film about a ship", ["red"], fits) == "a film about a, red"
    assert prompt("{text}, {words}", "a  ship", ["red", "dots"], fits) == "a  ship, red, dots"
    assert (
        prompt("{text}, {words}", "a film about a very long ship", [], fits)
        == "a film about a very long ship"
    )


# strengths


def test_the_best_opinion_wins_among_those_that_keep_the_item() -> None:
    tried = [
        Tried(Strength(3, 0.25, 3.0), 0.9, 1.0),
        Tried(Strength(3, 0.5, 3.0), 0.8, 2.0),
        Tried(Strength(3, 1.0, 3.0), 0.5, 3.0),
    ]
    assert choose(tried, 0.9, 0.85) == tried[1].strength
    assert choose(tried, 0.9, 0.5) == tried[2].strength
    assert choose(tried, 1.0, 1.0) == tried[0].strength  # none keeps as much: the one that keeps most


def test_strengths_to_try() -> None:
    decode = Sampling(guidance_scale=3.0, ip_adapter_scale=0.8)
    assert {each.words for each in candidates("image", 3, decode)} == {0}
    assert [(each.words, each.scale) for each in candidates("words", 3, decode)] == [(3, 0)]
    assert len(candidates("both", 3, decode)) == 4
    assert around(Strength(0, 0.2, 3.0)) == [Strength(0, 0.2, 5.0)]
