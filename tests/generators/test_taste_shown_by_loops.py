"""What taste shows, and how strongly it shows it, against plain loops and linear algebra written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from generators.common import ridge as r
from generators.taste import shown
from generators.taste.catalogue import Catalogue, Group
from generators.taste.kept import Strength, Tried, around, candidates, choose, full
from recgen.diffusion.sampling import Sampling

GROUPS = [
    Group("thing", ["rocket", "skull"], ["{}"], False),
    Group("hue", ["red", "blue"], ["{}"], True),
    Group("pattern", ["dots", "lines", "plain"], ["{}"], True),
]


def test_words_gain_against_the_mean_of_their_group() -> None:
    tags = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 0, 2]])
    indicators = np.hstack([tags[:, [n]] == np.arange(size) for n, size in enumerate((2, 2, 3))]).astype(
        np.float32
    )
    catalogue = Catalogue(np.arange(4), list("abcd"), np.zeros((4, 1)), np.zeros((4, 1)), tags, indicators)
    own = np.array([9.0, -9.0, 0.2, 0.6, 1.0, 3.0, -2.0])
    everybody = np.array([0.0, 0.0, 0.4, 0.0, 1.0, 1.0, 2.0])
    pattern, hue = shown.best_words(own, everybody, 0.0, catalogue, GROUPS)
    assert (pattern.group, pattern.phrase, hue.group, hue.phrase) == ("pattern", "lines", "hue", "blue")
    assert pattern.gain == pytest.approx(3.0 - (0.25 * 1 + 0.5 * 3 - 0.25 * 2))
    assert pattern.everybody == pytest.approx(1.0 - (0.25 + 0.5 + 0.5))
    assert hue.gain == pytest.approx(0.6 - (0.75 * 0.2 + 0.25 * 0.6)) and hue.everybody == pytest.approx(-0.3)
    assert hue.own == pytest.approx(hue.gain + 0.3)
    assert hue.as_json() == {"group": "hue", "phrase": "blue", "everybody": -0.3, "own": 0.6}
    alike = shown.best_words(np.zeros(7), np.zeros(7), 0.0, catalogue, GROUPS)
    assert alike == [], "a word that gains nothing is not shown"
    hue_error = ((1 - 0.25) / (4 * 0.25)) ** 0.5  # of "blue", which one item of four has, by sigma
    sigma = hue.gain / hue_error / 3
    assert len(shown.best_words(own, everybody, sigma * 0.999, catalogue, GROUPS)) == 2
    assert shown.best_words(own, everybody, sigma * 1.001, catalogue, GROUPS) == [pattern], "may be chance"
    nobodys = replace(catalogue, indicators=indicators * (np.arange(7) != 6))
    own[6] = 5.0
    assert [word.phrase for word in shown.best_words(own, everybody, 1.0, nobodys, GROUPS)] == ["plain"]
    rounded = shown.Word("hue", "red", 0.123456, 0.98765).as_json()
    assert (rounded["everybody"], rounded["own"]) == (0.1235, 0.9877)


def test_the_style_of_the_best_among_ties_and_few() -> None:
    looks = shown.Looks(np.zeros(4), np.zeros(1), np.zeros((1, 4)), np.eye(4, dtype=np.float32), 2.0)
    tied = shown.top_image(np.array([1.0, 2.0, 1.0, 1.0]), np.arange(4.0), looks, 2, left_out=-1)
    assert tied.items.tolist() == [1, 0] and tied.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert tied.everybody == pytest.approx(2 / 3) and tied.own == pytest.approx(5 / 3 - 2 / 3)
    assert tied.style.tolist() == pytest.approx([2 / 5**0.5, 4 / 5**0.5, 0, 0]), "of length s"
    few = shown.top_image(np.array([1.0, 3.0, -1.0, 0.0]), np.zeros(4), looks, 9, left_out=1)
    assert few.items.tolist() == [0, 3, 2] and few.weights.tolist() == [1.0, 0.0, 0.0]
    one = shown.top_image(np.array([5.0, 3.0, 4.0, 9.0]), np.zeros(4), looks, 1, left_out=3)
    assert one.items.tolist() == [0] and one.style.tolist() == [2.0, 0.0, 0.0, 0.0]
    zero = shown.top_image(np.array([0.0, -3.0, 0.0, -1.0]), np.zeros(4), looks, 2, left_out=-1)
    assert zero.weights.tolist() == [0.5, 0.5]
    plain = shown.Looks(np.zeros(4), np.zeros(1), np.zeros((1, 4)), np.zeros((4, 4)), 0.0)
    assert not shown.top_image(np.arange(4.0), np.zeros(4), plain, 2, left_out=-1).style.any()


def ridge_by_hand(texts: np.ndarray, images: np.ndarray, strength: float) -> np.ndarray:
    x, y = (each.astype(np.float64) - each.mean(axis=0, dtype=np.float64) for each in (texts, images))
    gram = x.T @ x
    return np.linalg.solve(gram + strength * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)


def test_images_are_parted_into_what_the_text_explains_and_style() -> None:
    rng = np.random.default_rng(5)
    texts = rng.normal(1, 1, (60, 3)).astype(np.float32)
    styles = rng.normal(0, 0.5, (60, 4))
    images = (texts @ rng.normal(0, 1, (3, 4)) + 7 + styles).astype(np.float32)
    every = texts.copy()
    texts[:5] = 0  # items without a text
    looks = shown.Looks.of(images, texts)
    told = np.where(texts.any(axis=1, keepdims=True), texts, texts[5:].mean(axis=0))
    ridge = r.Ridge(told, r.best_strength(told, (images - images.mean(axis=0)).T))
    far = images.copy()
    far[:2] += np.float32(1000.0)  # every item counts
    np.testing.assert_allclose(
        shown.Looks.of(far, every).coefficients,
        ridge_by_hand(every, far, r.best_strength(every, (far - far.mean(axis=0)).T)),
        rtol=1e-3,
    )
    for dimension in range(4):
        found = ridge.coefficients(images[None, :, dimension], np.array([-1]))[0]
        explained = images[:, dimension].mean() + (told - told.mean(axis=0)) @ found
        np.testing.assert_allclose(
            looks.styles[:, dimension], images[:, dimension] - explained, rtol=0, atol=2e-3
        )
        np.testing.assert_allclose(looks.content(texts[9])[dimension], explained[9], rtol=0, atol=2e-3)
    assert looks.length == pytest.approx(np.mean([np.linalg.norm(row) for row in looks.styles]), rel=1e-5)
    for nothing in (np.zeros(3), np.full(3, np.nan)):
        np.testing.assert_allclose(looks.content(nothing.astype(np.float32)), images.mean(axis=0))
    assert np.corrcoef(looks.styles[5:].ravel(), styles[5:].ravel())[0, 1] > 0.95
    untold = shown.Looks.of(images, np.zeros_like(texts))
    np.testing.assert_allclose(untold.styles, images - images.mean(axis=0), atol=1e-5)


def test_what_of_a_text_is_kept() -> None:
    assert (
        shown.prompt("{text}, {words}", "one two three", ["red"], lambda text: False) == "one two three, red"
    )
    assert shown.prompt("{text}, {words}", "one two", ["red"], lambda text: text == "one, red") == "one, red"
    nothing_but_words = shown.prompt("{text}, {words}", "one two", ["red"], lambda text: text == ", red")
    assert nothing_but_words == "one two, red", "a prompt is never without its item"
    seen: list[str] = []

    def fits(text: str) -> bool:
        seen.append(text)
        return len(text) < 12

    assert shown.prompt("{words}: {text}", "a b c d e f", ["red"], fits) == "red: a b c"
    assert seen == ["red: a b c d e f", "red: a b c d e", "red: a b c d", "red: a b c"]


# strengths


def test_strengths_from_the_gentlest_to_the_fullest() -> None:
    decode = Sampling(guidance_scale=6.0, ip_adapter_scale=0.8)
    assert full("both", 3, decode) == Strength(3, 0.8, 6.0)
    assert full("words", 3, decode) == Strength(3, 0.0, 6.0) and full("image", 3, decode) == Strength(
        0, 0.8, 6.0
    )
    both = [(each.words, each.scale, each.guidance) for each in candidates("both", 3, decode)]
    assert both == [(3, pytest.approx(scale), 6.0) for scale in (0.2, 0.4, 0.6, 0.8)]
    assert candidates("words", 2, decode) == [Strength(2, 0.0, 6.0)]
    assert around(Strength(2, 0.3, 1.5)) == [Strength(1, 0.3, 1.5), Strength(2, 0.3, 2.5)]
    assert around(Strength(1, 0.3, 1.0)) == [] and around(Strength(0, 0.3, 0.5)) == []
    changed = Strength(2, 0.3, 2.5).sampling(decode)
    assert (changed.ip_adapter_scale, changed.guidance_scale) == (0.3, 2.5)
    assert changed == replace_scales(decode, 0.3, 2.5)


def replace_scales(decode: Sampling, scale: float, guidance: float) -> Sampling:
    return Sampling(**{**decode.model_dump(), "ip_adapter_scale": scale, "guidance_scale": guidance})


def test_the_choice_among_those_that_keep_just_enough() -> None:
    a, b = Tried(Strength(1, 0.2, 3.0), 0.75, 1.0), Tried(Strength(2, 0.2, 3.0), 0.74, 5.0)
    most = Tried(Strength(0, 0.2, 3.0), 0.9, 0.0)
    assert choose([a, b, most], 1.0, 0.75) == a.strength, "0.75 is just kept"
    tied = replace(b, kept=0.75)
    assert choose([a, tied], 1.0, 1.0) == b.strength, "of those kept alike the better opinion"
    assert a.as_json() == {"words": 1, "scale": 0.2, "guidance": 3.0, "kept": 0.75, "opinion": 1.0}
