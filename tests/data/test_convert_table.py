"""Anybody's tables: CSV and Parquet, and what is wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from converted import dropped, histories, images, kept, table
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.convert import pog
from recgen.data.convert import table as tables

ITEMS = pd.DataFrame({
    "item_id": ["a/1", "日本", 'q"uote', "plain", "NA", "tab\tbed", "long" * 100, "plain", "li\u2028ne"],
    "title": ["one\ttwo\r\nthree", "漢字 " * 3, '"quoted" and, comma', "x" * 10**6, "n", "t", "l", "again", "s"],
    "category": ["c1", "c2", "c1", "NA", "c2", "c2", "c2", "c2", "c2"],
    "image_url": ["http://host.invalid/1.jpg", "ftp://host.invalid/2.jpg", "", "//host.invalid/x", "", "", "", "", ""],
})  # fmt: skip
GOOD = ["a/1", "日本", 'q"uote', "plain"]


def interactions() -> pd.DataFrame:
    rows = [(user, item, 5.0, 100 * turn) for user in ("u 1", "ü") for turn, item in enumerate(GOOD)]
    rows += [
        ("ü", "a/1", 1.0, 900),
        ("", "plain", 5.0, 1),
        ("nan", "plain", 5.0, 1),
        ("u 1", "nowhere", 5.0, 1),
    ]
    rows += [("cold", item, 2.0, 3) for item in GOOD]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.fixture(params=["csv", "parquet"])
def raw(request, tmp_path) -> Path:
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    people = pd.DataFrame(
        {"user_id": ["ü", "cold", "ü"], "city": ["Köln", "Bonn", "Ulm"], "age": [30, 40, 50]}
    )
    for name, frame in {"items": ITEMS, "interactions": interactions(), "users": people}.items():
        if request.param == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet")
    for name, red in {"日本": 1, "plain": 2, "stranger": 3}.items():
        Image.new("RGB", (4, 4), (red, 0, 0)).save(folder / f"images/{name}.png")
    return folder


def test_hostile_tables(raw, tmp_path):
    tables.prepare(raw, tmp_path / "out/mine", like=4)
    out = tmp_path / "out/mine"
    assert histories(out) == {"u 1": GOOD, "ü": GOOD}
    items = table(out, "item").set_index("item_id")
    assert list(items.index) == GOOD
    assert (
        items.loc["a/1", "title"] == "one two three" and items.loc['q"uote', "title"] == '"quoted" and, comma'
    )
    assert items.loc["plain"].tolist() == ["x" * 2000, "NA"]
    assert dropped(out) == {
        "interactions: of users with fewer than 3 likes": 4,
        "users: fewer than 3 likes": 1,
        "interactions: no id": 1,
        "interactions: an id that RecBole reads as missing": 1,
        "interactions: an item that was not kept": 1,
        "interactions: the same user and item again": 1,
        "items: an id that RecBole reads as missing": 1,
        "items: an id with a tab, a line break or another control character": 2,
        "items: an id of more than 256 characters": 1,
        "items: an item that was there before": 1,
        "image URLs: not one of the web": 1,
        "user rows: a user who was not kept": 1,
        "user rows: there before": 1,
    }
    assert table(out, "user").to_dict("records") == [{"user_id": "ü", "city": "Köln", "age": "30"}]
    names = images(out)
    assert set(names) == {"a/1", "日本", "plain"} and names["plain"] == "plain"
    assert Image.open(out / f"images/{names['日本']}.png").getpixel((0, 0)) == (1, 0, 0)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine"}


def test_recbole_reads_it(raw, tmp_path):
    from recbole.model.general_recommender.bpr import BPR

    from recgen.recommender.recbole import recbole_config, split

    tables.prepare(raw, tmp_path / "mine")
    keys = {
        "dataset": "mine",
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    }
    whole = split(recbole_config(BPR, keys), "mine").whole
    assert set(whole.field2id_token["item_id"][1:]) == set(GOOD) and whole.user_num - 1 == 3


def test_times_as_dates(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    pd.DataFrame({"item_id": ["a", "b", "c"]}).to_csv(raw / "items.csv", index=False)
    dates = ["2024-05-02 10:00:00", "2024-05-01T10:00:00+02:00", "2024-05-03", "soon"]
    frame = pd.DataFrame({"user_id": "u", "item_id": ["a", "b", "c", "a"], "timestamp": dates})
    frame.to_csv(raw / "interactions.csv", index=False)
    tables.prepare(raw, tmp_path / "out")
    assert histories(tmp_path / "out") == {"u": ["b", "a", "c"]}
    assert dropped(tmp_path / "out") == {"interactions: a timestamp that is neither seconds nor ISO 8601": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,title\n1,x\n", "expected one column 'item_id'"),
        ("item_id,item_id\n1,x\n", "found column 'item_id' 2 times"),
        ("item_id,my title\n1,x\n", "found a column 'my title'"),
        (
            'item_id,title\n1,"never closed\n' + ("x" * 2_000 + "\n") * 9_000,
            "expected a CSV with closed quotes",
        ),
        ("", "expected one column 'item_id'"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/items.csv").write_text(content)
    (tmp_path / "raw/interactions.csv").write_text("user_id,item_id\nu,1\n")
    with pytest.raises(UserError, match=message):
        tables.prepare(tmp_path / "raw", tmp_path / "out")


def test_a_row_without_end_is_not_held(tmp_path):
    """A line of more than 16 MiB is counted and skipped."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/item_data.txt").write_text(
        "\n".join(["1,c,//h/1.jpg,t", "2,c,," + "x" * (17 * 2**20), "3,c,,t", "4,c,,t"])
    )
    (tmp_path / "raw/user_data.txt").write_text("u,1;2;3;4,o\n")
    pog.prepare(tmp_path / "raw", tmp_path / "out")
    assert histories(tmp_path / "out") == {"u": ["1", "3", "4"]}
    assert dropped(tmp_path / "out")["rows: longer than 16 MiB in item_data.txt"] == 1


def test_somebody_elses_data_set_is_not_overwritten(raw, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/mine.inter").write_text("precious")
    with pytest.raises(UserError, match="not prepared here"):
        tables.prepare(raw, tmp_path / "mine")
    assert (tmp_path / "mine/mine.inter").read_text() == "precious"


def catalogue(folder: Path, count: int = 100) -> Path:
    """Images in two colours and a table of items without interactions."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 90, (16, 16, 3), dtype=np.uint8)
        pixels[..., 0 if number % 2 else 2] += 150
        Image.fromarray(pixels).save(folder / f"images/g{number}.png")
    (folder / "images/g0.png").write_bytes(b"broken")
    pd.DataFrame({"item_id": [f"g{n}" for n in range(count)], "category": "shirt"}).to_csv(
        folder / "items.csv", index=False
    )
    return folder


def test_simulated_users_have_tastes_and_the_data_says_so(tmp_path):
    raw = catalogue(tmp_path / "raw")
    with pytest.raises(UserError, match="--simulate-users N"):
        tables.prepare(raw, tmp_path / "sim")
    tables.prepare(raw, tmp_path / "sim", simulate_users=40, seed=1)
    rows = table(tmp_path / "sim", "inter")
    assert rows["user_id"].nunique() == 40 and "g0" not in set(rows["item_id"]), (
        "nobody meets an image that cannot be read"
    )
    likes = rows["rating"] == "5"
    assert 0.2 < likes.mean() < 0.7
    red = rows["item_id"].str[1:].astype(int) % 2 == 1

    def preference(liked: pd.Series) -> float:
        """Mean over users of how far the likes of red and of blue images are apart."""
        rates = liked.groupby([rows["user_id"], red]).mean().unstack()
        return float((rates[True] - rates[False]).abs().mean())

    shuffled = likes.sample(frac=1, random_state=0).set_axis(likes.index)
    assert preference(likes) > 1.5 * preference(shuffled), "tastes follow what is in the images"
    assert "simulated" in json.loads((tmp_path / "sim/provenance.json").read_text())["users"]
    assert kept(tmp_path / "sim")["interactions"] == 40 * 80
    tables.prepare(raw, tmp_path / "more", simulate_users=50, seed=1)
    more = histories(tmp_path / "more")
    assert {user: more[user] for user in list(more)[:40]} == histories(tmp_path / "sim"), (
        "more users change none"
    )


def test_people_and_simulated_users_do_not_mix(raw, tmp_path):
    with pytest.raises(UserError, match="expected a folder without interactions"):
        tables.prepare(raw, tmp_path / "out", simulate_users=5)
