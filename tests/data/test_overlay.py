"""A real log with a known taste in posters: the log's films and users stay, the taste shows, and it alone is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from recgen.core.errors import UserError
from recgen.core.seeding import seed_for
from recgen.data.simulation.attributes import MOTIFS, Attributes
from recgen.data.simulation.factors import Factors
from recgen.data.simulation.overlay import overlay
from recgen.data.simulation.renderer import render
from recgen.recommender.recbole import PACKAGED, data_folder

BASE = data_folder({"dataset": PACKAGED})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "visual"
    return out, overlay(BASE, out, seed=5)


def read(folder: Path, name: str, suffix: str) -> pd.DataFrame:
    return pd.read_csv(
        folder / f"{name}.{suffix}", sep="\t", dtype={"user_id:token": str, "item_id:token": str}
    )


def test_users_films_and_encounters_are_the_logs(made):
    out, truth = made
    before, after = read(BASE, BASE.name, "inter"), read(out, out.name, "inter")
    for column in ("user_id:token", "item_id:token", "timestamp:float"):
        assert (before[column] == after[column]).all()
    assert (out / "visual.item").read_bytes() == (BASE / f"{BASE.name}.item").read_bytes()
    assert (
        set(after["rating:float"]) == {1.0, 5.0}
        and len(truth.user_ids) == 943
        and len(truth.item_ids) == 1682
    )


def test_every_user_likes_about_as_much_as_before(made):
    out, _ = made
    before, after = read(BASE, BASE.name, "inter"), read(out, out.name, "inter")
    was = (before["rating:float"] >= 4).groupby(before["user_id:token"]).sum()
    now = (after["rating:float"] >= 4).groupby(after["user_id:token"]).sum()
    assert abs(now.sum() / was.sum() - 1) < 0.02 and np.corrcoef(was, now[was.index])[0, 1] > 0.97


def test_likes_follow_the_rating_and_the_taste_in_posters(made):
    """A logistic regression of the new likes finds both with the weights that made them."""
    from sklearn.linear_model import LogisticRegression

    out, truth = made
    before, after = read(BASE, BASE.name, "inter"), read(out, out.name, "inter")
    users, items = after["user_id:token"].tolist(), after["item_id:token"].tolist()
    style = (
        truth.utility(users, truth.attributes_of(items))
        - truth.intercept[truth._rows(truth._user_rows(), users, "user")]
    )
    rating = before["rating:float"] - before.groupby("user_id:token")["rating:float"].transform("mean")
    intercept = truth.intercept[truth._rows(truth._user_rows(), users, "user")]
    found = (
        LogisticRegression(C=1e6)
        .fit(np.stack([rating, style, intercept], 1), after["rating:float"] >= 4)
        .coef_[0]
    )
    np.testing.assert_allclose(found, 1.0, atol=0.05)


def test_a_posters_style_says_nothing_about_the_film(made):
    _, truth = made
    motif, colour = truth.item_attributes[:, 0], truth.item_attributes[:, 1]
    drama = motif == MOTIFS.index("tear")
    shares = np.stack([np.bincount(colour[rows], minlength=10) / rows.sum() for rows in (drama, ~drama)])
    assert drama.sum() > 300 and np.abs(shares[0] - shares[1]).max() < 0.06


def test_posters_are_drawn(made):
    out, truth = made
    assert len(list((out / "images").glob("*.png"))) == len(truth.item_ids)
    assert Image.open(out / "images/1.png").size == (64, 64)


def test_a_user_and_a_film_depend_on_the_seed_and_themselves_alone(made, tmp_path):
    _, truth = made
    small = tmp_path / "base" / "part"
    small.mkdir(parents=True)
    rows = read(BASE, BASE.name, "inter")
    rows = rows[rows["user_id:token"].isin(["1", "7"])]
    rows.to_csv(small / "part.inter", sep="\t", index=False)
    header, *films = (BASE / f"{BASE.name}.item").read_text().splitlines(keepends=True)
    met = set(rows["item_id:token"])
    (small / "part.item").write_text(header + "".join(film for film in films if film.split("\t")[0] in met))
    part = overlay(small, tmp_path / "out", seed=5)
    user, item = truth.user_ids.index("7"), truth.item_ids.index("50")
    assert (part.style[part.user_ids.index("7")] == truth.style[user]).all()
    assert part.intercept[part.user_ids.index("7")] == pytest.approx(truth.intercept[user])
    assert (part.item_attributes[part.item_ids.index("50")] == truth.item_attributes[item]).all()


def test_the_gain_of_another_poster_is_the_styles(made):
    """With content unknown and kept, the difference of two utilities is that of the styles."""
    _, truth = made
    one, other = np.array([[3, 0, 1, 2]]), np.array([[3, 4, 1, 2]])
    gain = truth.utility(["7"], other) - truth.utility(["7"], one)
    row = truth.user_ids.index("7")
    assert gain[0] == pytest.approx(truth.style[row, 0, 4] - truth.style[row, 0, 0])
    assert not truth.content.any() and 0 < expit(truth.intercept).mean() < 1


def test_a_rated_film_without_an_item_is_named(tmp_path):
    base = tmp_path / "b"
    base.mkdir()
    (base / "b.inter").write_text("user_id:token\titem_id:token\trating:float\nu\tx\t4\n")
    (base / "b.item").write_text("item_id:token\tclass:token_seq\ny\tDrama\n")
    with pytest.raises(UserError, match="item 'x'"):
        overlay(base, tmp_path / "out", seed=1)


def test_a_taste_in_factors_is_laid_over_as_well(tmp_path):
    base = tmp_path / "base" / "part"
    base.mkdir(parents=True)
    rows = read(BASE, BASE.name, "inter")
    films = read(BASE, BASE.name, "item").head(60)
    met = rows[rows["user_id:token"].isin(["1", "7"]) & rows["item_id:token"].isin(films["item_id:token"])]
    met.to_csv(base / "part.inter", sep="\t", index=False)
    films.to_csv(base / "part.item", sep="\t", index=False)
    truth = overlay(base, tmp_path / "out", seed=5, tastes_in="factors")
    assert truth.sees_factors and not truth.style.any()
    degrees = truth.factors_of(["2"])
    poster = render(
        Attributes(*truth.attributes_of(["2"])[0]),
        seed_for(5, "overlay poster", item="2"),
        Factors(*degrees[0]),
    )
    assert Image.open(tmp_path / "out/images/2.png").tobytes() == poster.tobytes()
    look = truth.attributes_of(["2"])
    best = np.sign(truth.factors[:1, 0])
    assert truth.utility(["1"], look, best * 0.4) > truth.utility(["1"], look, -best * 0.4)
