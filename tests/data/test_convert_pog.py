"""POG in its published layout, as few rows: what is kept, what is dropped and why."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest
import raw_pog
import yaml

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import read_features
from recgen.data.convert import pog
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


def read(path):
    return pd.read_csv(path, sep="\t", dtype=str, engine="python", keep_default_na=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pog")
    pog.prepare(raw_pog.write_raw_pog(folder / "raw"), folder / "pog")
    return folder / "pog"


def dropped(folder) -> dict[str, int]:
    entries = json.loads((folder / "provenance.json").read_text())["dropped"]
    return {f"{entry['what']}: {entry['why']}": entry["count"] for entry in entries}


def test_titles_keep_their_commas_and_quotes(prepared):
    titles = read(prepared / "pog.item").set_index("item_id:token")["title:token_seq"]
    assert titles[raw_pog.item_id(3)] == '连衣裙 dress "3", 2019新款'
    assert titles[raw_pog.item_id(4)] == '连衣裙 dress "4"'


def test_clicks_stand_in_their_order_over_all_rows_of_a_user(prepared):
    rows = read(prepared / "pog.inter").query("`user_id:token` == 'user-0'")
    raw = [line.split(",") for line in (prepared.parent / "raw/user_data.txt").read_text().splitlines()[:2]]
    assert rows["item_id:token"].tolist() == raw[0][1].split(";") + raw[1][1].split(";")[1:]
    assert rows["timestamp:float"].astype(int).tolist() == list(range(1, raw_pog.CLICKS + 1))


def test_what_is_dropped_is_counted(prepared):
    assert dropped(prepared) == {
        "interactions: the same user and item again": 1,
        "interactions: an item without a usable row in item_data.txt": 1,
        "users: fewer than 3 likes": 1,
        "interactions: of users with fewer than 3 likes": 1,
        "user rows: no clicks": 1,
        "items: not 4 fields in item_data.txt": 1,
        "image URLs: none given, or not one of the web": 1,
    }
    kept = json.loads((prepared / "provenance.json").read_text())["kept"]
    clicks = raw_pog.USERS * raw_pog.CLICKS
    assert kept == {
        "users": raw_pog.USERS,
        "interactions": clicks,
        "items": raw_pog.ITEMS,
        "image URLs": raw_pog.ITEMS - 1,
    }


def test_image_urls_get_a_scheme(prepared):
    with (prepared / "image_urls.csv").open() as file:
        rows = {row["item_id"]: row for row in csv.DictReader(file)}
    assert rows[raw_pog.item_id(7)]["url"] == "http://images.invalid/7.jpg"
    assert rows[raw_pog.item_id(7)]["file"] == raw_pog.item_id(7) and raw_pog.item_id(5) not in rows


def test_drawn_users_do_not_depend_on_how_many_are_drawn(prepared, tmp_path):
    names = {}
    for count in (5, 9):
        pog.prepare(prepared.parent / "raw", tmp_path / f"p{count}", users=count, seed=3)
        names[count] = set(read(tmp_path / f"p{count}/p{count}.inter")["user_id:token"])
        assert len(names[count]) == count
        met = set(read(tmp_path / f"p{count}/p{count}.inter")["item_id:token"])
        assert set(read(tmp_path / f"p{count}/p{count}.item")["item_id:token"]) == met
    assert names[5] < names[9]


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/user_data.txt").touch()
    with pytest.raises(UserError, match=r"no item_data.txt; there is user_data.txt"):
        pog.prepare(tmp_path / "raw", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()), "nothing half-made stays"


def test_a_run_takes_what_was_written(prepared, tmp_path):
    """From the converted files to features, with the shipped encoder, by a YAML of a few lines."""
    raw_pog.draw_images(prepared)
    settings = {
        "images": str(prepared / "images"), "image_ids": str(prepared / "images.csv"), "text_fields": ["title"],
        "like_threshold": None, "generators": ["stable_diffusion"], "threads": 1, "preset": "standard",
    }  # fmt: skip
    config = tmp_path / "small.yaml"
    config.write_text(
        yaml.safe_dump({"dataset": "pog", "data_path": str(prepared.parent), "recgen": settings})
    )
    pipeline.execute(RunContext(load_config(str(config)), tmp_path / "run"), until="features")
    items = pd.read_parquet(tmp_path / "run/dataset/items.parquet")
    assert len(items) == raw_pog.ITEMS and items["image"].notna().sum() == raw_pog.ITEMS - 1
    assert '连衣裙 dress "3", 2019新款' in set(items["text"])
    assert read_features(tmp_path / "run/features/image.safetensors").shape[0] == raw_pog.ITEMS - 1
    assert len(pd.read_parquet(tmp_path / "run/dataset/requests.parquet")) == raw_pog.USERS
