"""Factors that no word names: what the renderer draws of them, and worlds in which users have tastes in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from recgen.data.simulation.attributes import Attributes
from recgen.data.simulation.factors import FACTORS, NEUTRAL, Factors
from recgen.data.simulation.renderer import render, render_mask, seeded_factors
from recgen.data.simulation.simulator import (
    Truth,
    World,
    draw_interactions,
    draw_truth,
    image_seed,
    simulate,
)
from recgen.data.simulation.tastes import FACTOR_CURVATURE, draw_tastes, favourite, graded

LOOK = Attributes(15, 4, 0, 0)  # a teal rocket on cream


def drawn(seed: int = 5, **degrees: float) -> np.ndarray:
    return np.asarray(render(LOOK, seed, NEUTRAL._replace(**degrees)), dtype=float)


def foreground(**degrees: float) -> np.ndarray:
    return np.asarray(render_mask(LOOK, 5, NEUTRAL._replace(**degrees)), dtype=float) / 255


def lean(**degrees: float) -> float:
    """Covariance of the foreground's coordinates: its sign is the way the rocket leans."""
    mask = foreground(**degrees)
    y, x = np.mgrid[0:64, 0:64]
    return -float(
        np.average((x - np.average(x, weights=mask)) * (y - np.average(y, weights=mask)), weights=mask)
    )


def greyness(image: np.ndarray) -> float:
    return float(image.max(axis=2).mean() - image.min(axis=2).mean())


MEASURES = {
    "stroke": lambda z: foreground(stroke=z).sum(),
    "tilt": lambda z: lean(tilt=z),
    "scale": lambda z: foreground(scale=z).sum(),
    "border": lambda z: -drawn(border=z)[32, :8].mean(),  # dark on a light ground
    "grain": lambda z: drawn(grain=z)[:6].std(),
    "warmth": lambda z: (drawn(warmth=z)[..., 0] - drawn(warmth=z)[..., 2]).mean(),
    "saturation": lambda z: greyness(drawn(saturation=z)),
}  # fmt: skip


@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_is_drawn_in_degrees(factor):
    found = [MEASURES[factor](z) for z in (-1, -0.4, 0.2, 0.8)]
    assert (np.diff(found) > 0).all(), found


def test_pictures_without_factors_are_what_they_were():
    """All earlier results are of these pictures."""
    looks = [(Attributes(n % 19, n % 10, n % 8, n % 6), n) for n in range(40)]
    digest = hashlib.sha256(b"".join(render(*look).tobytes() for look in looks)).hexdigest()
    assert digest.startswith("1c3bc480305e5b34")


def test_a_picture_is_its_seed_s_and_factors_without_any_are_those_of_the_seed():
    factors = Factors(0.3, -0.5, 0.1, 0.2, 0.9, -0.4, 0.6)
    assert render(LOOK, 7, factors).tobytes() == render(LOOK, 7, factors).tobytes()
    assert render(LOOK, 7, factors).tobytes() != render(LOOK, 8, factors).tobytes()
    of_seed = seeded_factors(7)
    assert render_mask(LOOK, 7, of_seed).tobytes() == render_mask(LOOK, 7).tobytes()
    plain, same = (np.asarray(render(LOOK, 7, each), dtype=int) for each in (None, of_seed))
    assert np.abs(plain - same).max() <= 7, "only tint and shade vary less"


def test_utility_of_factors_by_hand_and_its_favourite():
    weights, degrees = np.array([[0.3] + [0.0] * 6]), np.array([[0.5] + [0.0] * 6])
    assert graded(weights, degrees)[0] == pytest.approx(0.3 * 0.5 - FACTOR_CURVATURE / 2 * 0.25)
    rng = np.random.default_rng(0)
    many = rng.normal(size=(50, 7))
    best = graded(many, favourite(many))
    assert all((graded(many, rng.uniform(-1, 1, (50, 7))) <= best).all() for _ in range(50))


def test_tastes_in_words_are_those_of_worlds_without_factors_and_in_factors_know_no_word():
    users = [f"u{n}" for n in range(300)]
    words, factors, both = (draw_tastes(users, 3, tastes_in=each) for each in ("words", "factors", "both"))
    assert not words.factors.any() and not factors.style.any()
    np.testing.assert_allclose(both.style, words.style * 0.5**0.5)
    np.testing.assert_allclose(both.factors, factors.factors * 0.5**0.5)
    np.testing.assert_array_equal(words.content, factors.content)
    assert factors.factors.std() == pytest.approx(1.2, abs=0.15)


def test_interaction_is_the_share_that_a_class_has_for_itself():
    users = [f"u{n}" for n in range(2000)]
    likeness = {}
    for share in (0.0, 0.5, 1.0):
        style = draw_tastes(users, 3, tastes_per_user=2, interaction=share).style
        likeness[share] = np.mean([np.corrcoef(style[:, 0, w], style[:, 1, w])[0, 1] for w in range(24)])
    assert likeness[0.0] == pytest.approx(1)
    assert 0.25 < likeness[0.5] < 0.75 and abs(likeness[1.0]) < 0.3


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    out = tmp_path_factory.mktemp("data") / "sim"
    return out, simulate(
        out, World(30, 60, 40, tastes_in="factors", newcomers=0.5, newcomer_interactions=5), seed=3
    )


def test_a_world_of_factors_draws_them_and_reads_its_likes_off_them(wordless):
    out, truth = wordless
    item = truth.item_ids[4]
    factors = Factors(*truth.factors_of([item])[0])
    again = draw_truth(World(30, 60, 40, tastes_in="factors"), 3)
    np.testing.assert_array_equal(again.item_factors, truth.item_factors)
    look = Attributes(*truth.attributes_of([item])[0])
    with Image.open(out / f"images/{item}.png") as image:
        assert image.tobytes() == render(look, image_seed(3, item), factors).tobytes()
    other = np.array([[0, 1, 2, 3], [0, 5, 6, 1]])
    same = np.tile(truth.item_factors[:1], (2, 1))
    one, two = truth.utility(["u1", "u1"], other, same)
    assert one == two, "colours, grounds and patterns are all the same to everybody"
    low, high = truth.utility(["u1"] * 2, other, np.stack([same[0], favourite(truth.factors[0, 0])]))
    assert high > low
    with pytest.raises(ValueError, match="depends on factors"):
        truth.utility(["u1"], other[:1])


def test_likes_follow_the_truth_of_factors():
    world = World(300, 400, 100, tastes_in="factors")
    truth = draw_truth(world, 3)
    log = draw_interactions(truth, 3, world)
    users, items = log["user_id:token"].tolist(), log["item_id:token"].tolist()
    chance = truth.probability(users, truth.attributes_of(items), truth.factors_of(items))
    likes = (log["rating:float"] >= 4).to_numpy()
    for rows in np.array_split(np.argsort(chance), 10):
        expected = chance[rows].mean()
        assert abs(likes[rows].mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(rows))
    assert likes.mean() == pytest.approx(0.35, abs=0.03)


def test_newcomers_have_met_few_items_and_nobody_else_changes(wordless):
    _, truth = wordless
    world = World(30, 60, 40, tastes_in="factors", newcomers=0.5, newcomer_interactions=5)
    log = draw_interactions(truth, 3, world)
    counts = log.groupby("user_id:token").size()
    assert set(counts) == {5, 40} and 8 <= (counts == 5).sum() <= 22
    everybody = draw_interactions(truth, 3, World(30, 60, 40, tastes_in="factors"))
    old = [user for user, count in counts.items() if count == 40]
    columns = ["user_id:token", "item_id:token", "rating:float"]
    kept = everybody[everybody["user_id:token"].isin(old)][columns].reset_index(drop=True)
    assert kept.equals(log[log["user_id:token"].isin(old)][columns].reset_index(drop=True))


def test_a_truth_from_before_factors_is_read(wordless, tmp_path: Path):
    truth = draw_truth(World(4, 6), 3)
    truth.save(tmp_path)
    arrays = load_file(tmp_path / "truth.safetensors")
    save_file({k: v for k, v in arrays.items() if "factors" not in k}, tmp_path / "truth.safetensors")
    old = Truth.load(tmp_path)
    looks = truth.item_attributes[:3]
    np.testing.assert_array_equal(old.utility(["u2"] * 3, looks), truth.utility(["u2"] * 3, looks))
    assert not old.sees_factors and old.factors_of(["i2"]).tolist() == [list(NEUTRAL)]
