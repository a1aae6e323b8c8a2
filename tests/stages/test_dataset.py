"""The dataset stage: references, histories, dislikes, texts and images, on tables where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.data.catalogue import item_titles, render_posters
from recgen.data.simulation.simulator import Truth
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.recbole import data_keys


def atomic(folder: Path, ending: str, header: str, rows: list[tuple[Any, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(str(value) for value in row) + "\n" for row in rows)
    (folder / f"{folder.name}.{ending}").write_text(header.replace(" ", "\t") + "\n" + text, encoding="utf-8")


def stage(tmp_path: Path, write_config, *overrides: str) -> dict[str, pd.DataFrame]:
    """Run the dataset stage on the data set `small` and return its tables."""
    config = load_config(str(write_config(tmp_path)), ["dataset=small", f"data_path={tmp_path}", *overrides])
    pipeline.execute(RunContext(config, tmp_path / "run"), until="dataset")
    names = ("items", "interactions", "requests")
    return {name: pd.read_parquet(tmp_path / f"run/dataset/{name}.parquet") for name in names}


@pytest.fixture
def small(tmp_path) -> Path:
    """Two users: a likes i1 i2 i3 i4 in this order and dislikes i5 early and i6 late; b likes i4 i3 i2 i1."""
    rows = [("a", f"i{n}", 5, 10 * n) for n in (4, 2, 1, 3)] + [("a", "i5", 1, 5), ("a", "i6", 2, 99)]
    rows += [("b", f"i{n}", 4, 100 - n) for n in (1, 2, 3, 4)]
    atomic(tmp_path / "small", "inter", "user_id:token item_id:token rating:float timestamp:float", rows)
    names = [(f"i{n}", f"film {n}", "war") for n in range(1, 8)]
    atomic(tmp_path / "small", "item", "item_id:token title:token_seq kind:token", names)
    (tmp_path / "small/images").mkdir()
    for n in range(1, 8):
        Image.new("RGB", (4, 4), (n, n, n)).save(tmp_path / f"small/images/i{n}.png")
    return tmp_path / "small"


def test_a_title_is_kept_beside_the_text_it_is_a_part_of(small, write_config, tmp_path):
    items = stage(
        tmp_path, write_config, f"recgen.images={small / 'images'}", "recgen.text_fields=[kind, title]"
    )["items"]
    assert items["text"].tolist() == [f"war film {item[1:]}" for item in items["item_id"]]
    assert items["title"].tolist() == [f"film {item[1:]}" for item in items["item_id"]]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["class", "movie_title"], "movie_title"),
        (["name", "brand_name"], "name"),
        (["name", "title"], "title"),
        (["title", "subtitle"], "title"),
        (["title", "original_title"], None),
        (["class", "brand_name"], None),
    ],
)
def test_a_column_is_taken_for_titles_where_it_can_be_no_other(columns, found):
    catalogue = pd.DataFrame([{name: f" {name}  of one " for name in columns}], index=["1"])
    titles = item_titles(["1", "2"], catalogue)
    assert titles == (None if found is None else [f"{found} of one", ""])


def test_what_generators_learn_from_are_the_tables_by_number(write_config, tmp_path, monkeypatch):
    """The rows of users and items, taken from the codes of a table's strings, are those of its tokens."""
    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    pipeline.execute(run, until="features")
    table, data = run.interactions, run.data
    known = table[table["split"] != "test"].reset_index(drop=True)
    assert data.user_ids == list(dict.fromkeys(table["user_id"])) and len(known) < len(table)
    rows = data.interactions
    assert [data.user_ids[row] for row in rows["user"]] == known["user_id"].tolist()
    assert [data.item_ids[row] for row in rows["item"]] == known["item_id"].tolist()
    for column in ("like", "timestamp", "split"):
        pd.testing.assert_series_equal(rows[column], known[column])
    assert {name: str(kind) for name, kind in rows.dtypes.items()} == {
        "user": "int64", "item": "int64", "like": "bool", "timestamp": "float64", "split": "object"
    }  # fmt: skip
    assert len(run.reference_images.rows) == 30
    run.clear_cache()
    monkeypatch.setattr("recgen.pipeline.context.REFERENCES", 7)
    some = run.reference_images.rows
    run.clear_cache()
    assert len(np.unique(some, axis=0)) == 7 and np.array_equal(run.reference_images.rows, some), (
        "drawn by the seed"
    )
    coded = run.coded_interactions()
    assert str(coded["user_id"].dtype) == "category"
    pd.testing.assert_frame_equal(coded.astype(table.dtypes.to_dict()), table)


def test_items_that_show_one_image_have_it_looked_at_once(small, tmp_path, write_config, monkeypatch):
    from recgen.data import catalogue

    opened = []
    monkeypatch.setattr(catalogue, "read_image", lambda path: opened.append(path))
    named = [(f"i{n}", f"film {n}", "images/i1.png" if n < 6 else "images/i6.png") for n in range(1, 8)]
    atomic(small, "item", "item_id:token title:token_seq image:token", named)
    tables = stage(tmp_path, write_config, "recgen.images=null")
    assert sorted(path.name for path in opened) == ["i1.png", "i6.png"]
    shown = tables["items"].set_index("item_id")["image"]
    assert [Path(path).name for path in shown[["i1", "i5", "i6", "i7"]]] == [
        "i1.png",
        "i1.png",
        "i6.png",
        "i6.png",
    ]


def test_the_reference_is_the_last_like_and_the_history_what_came_before(small, tmp_path, write_config):
    tables = stage(tmp_path, write_config, f"recgen.images={small / 'images'}")
    requests = tables["requests"].set_index("user_id")
    assert requests.loc["a", "item_id"] == "i4" and requests.loc["a", "history"].tolist() == [
        "i1",
        "i2",
        "i3",
    ]
    assert requests.loc["b", "item_id"] == "i1" and requests.loc["b", "history"].tolist() == [
        "i4",
        "i3",
        "i2",
    ]
    seen = tables["interactions"].query("user_id == 'a'").set_index("item_id")["split"].to_dict()
    assert seen == {"i5": "none", "i1": "train", "i2": "train", "i3": "valid", "i4": "test"}, (
        "i6 came after the reference"
    )
    assert tables["interactions"].query("user_id == 'a'")["timestamp"].tolist() == [5, 10, 20, 30, 40]
    assert not tables["interactions"].query("item_id == 'i5'")["like"].any()


def test_the_catalogue_is_the_whole_item_file(small, tmp_path, write_config):
    items = stage(tmp_path, write_config, f"recgen.images={small / 'images'}")["items"].set_index("item_id")
    assert sorted(items.index) == [f"i{n}" for n in range(1, 8)]
    assert items.loc["i7", "text"] == "film 7 war"


def test_text_fields_choose_and_order_columns(small, tmp_path, write_config):
    chosen = "recgen.text_fields=[kind, title]"
    items = stage(tmp_path, write_config, f"recgen.images={small / 'images'}", chosen)["items"]
    assert items.set_index("item_id").loc["i2", "text"] == "war film 2"


def test_images_by_another_name(small, tmp_path, write_config):
    (tmp_path / "names.csv").write_text("item,file\ni1,i5\ni2,none\n")
    where = (f"recgen.images={small / 'images'}", f"recgen.image_ids={tmp_path / 'names.csv'}")
    items = stage(tmp_path, write_config, *where)["items"].set_index("item_id")
    assert Path(items.loc["i1", "image"]).name == "i5.png"
    assert items["image"].notna().sum() == 1


def test_images_by_column(small, tmp_path, write_config):
    names = [(f"i{n}", f"film {n}", f"images/i{n}.png" if n < 4 else "") for n in range(1, 8)]
    atomic(small, "item", "item_id:token title:token_seq image:token", names)
    items = stage(tmp_path, write_config, "recgen.images=null")["items"].set_index("item_id")
    assert items["image"].notna().sum() == 3 and items.loc["i1", "text"] == "film 1"


def test_strange_ids_and_endless_titles(small, tmp_path, write_config):
    """Ids with slashes find no image outside the folder; composed and decomposed accents are the same name."""
    strange = ["../../../etc/x", "a/b", "ü", "名前", "i1", "i2", "i3"]
    rows = [("a", token, 5, n) for n, token in enumerate(strange)]
    atomic(small, "inter", "user_id:token item_id:token rating:float timestamp:float", rows)
    names = [(token, "w" * 1_000_000 if n == 0 else "film") for n, token in enumerate(strange)]
    atomic(small, "item", "item_id:token title:token_seq", names)
    Image.new("RGB", (4, 4)).save(small / "images/u\u0308.png")
    items = stage(tmp_path, write_config, f"recgen.images={small / 'images'}")["items"].set_index("item_id")
    assert items["image"].notna().to_dict() == {token: token in ("ü", "i1", "i2", "i3") for token in strange}
    assert len(items.loc["../../../etc/x", "text"]) == 2_000


def test_without_ratings_every_interaction_is_a_like(small, tmp_path, write_config):
    rows = [("a", f"i{n}", n) for n in range(1, 6)]
    atomic(small, "inter", "user_id:token item_id:token timestamp:float", rows)
    table = stage(tmp_path, write_config, f"recgen.images={small / 'images'}")["interactions"]
    assert table["like"].all() and table["rating"].isna().all() and len(table) == 5


def test_another_split_is_recboles(small, tmp_path, write_config):
    rows = [("a", f"i{n % 7 + 1}", 5, n) for n in range(20)]
    atomic(small, "inter", "user_id:token item_id:token rating:float timestamp:float", rows)
    split = "eval_args={split: {RS: [0.6, 0.2, 0.2]}, order: TO, group_by: user, mode: full}"
    tables = stage(tmp_path, write_config, f"recgen.images={small / 'images'}", split)
    assert tables["interactions"]["split"].tolist() == ["train"] * 12 + ["valid"] * 4 + ["test"] * 4
    assert tables["requests"]["item_id"].tolist() == ["i6"], "the last of several test items is the reference"


def test_more_requests_keep_the_first_ones(small, tmp_path, write_config):
    images = f"recgen.images={small / 'images'}"
    few = stage(tmp_path, write_config, images, "recgen.requests=1")["requests"]
    many = stage(tmp_path, write_config, images)["requests"]
    assert len(few) == 1 and len(many) == 2 and many["seed"].isin(few["seed"]).sum() == 1


def test_a_simulated_data_set_is_made_by_the_run(tmp_path, write_config):
    size = "recgen.simulator={users: 6, items: 12, interactions_per_user: 12, tastes_in: factors}"
    tables = stage(tmp_path, write_config, size)
    assert len(tables["items"]) == 12 and tables["items"]["image"].notna().all()
    assert Truth.load(tmp_path / "run/dataset/simulator").sees_factors


def test_the_keys_that_make_the_data_are_recboles():
    from recbole.utils import dataset_arguments

    assert set(data_keys(dict.fromkeys(dataset_arguments))) == set(dataset_arguments)
    assert not data_keys({"epochs": 3, "learning_rate": 0.1, "embedding_size": 8})


def test_rankers_of_data_without_ratings_and_without_texts(small, tmp_path, write_config):
    """Nobody dislikes anything, so the verifier learns from items nobody met; no text, so MICRO has images only."""
    (small / "small.item").unlink()
    rows = [(user, f"i{(n + shift) % 7 + 1}", n) for shift, user in enumerate("abcdef") for n in range(6)]
    atomic(small, "inter", "user_id:token item_id:token timestamp:float", rows)
    cutoff = ["topk=[3]", "valid_metric=Recall@3"]
    overrides = ["dataset=small", f"data_path={tmp_path}", f"recgen.images={small / 'images'}", *cutoff]
    run = RunContext(load_config(str(write_config(tmp_path)), overrides), tmp_path / "run")
    pipeline.execute(run, until="ranker")
    labels = pd.read_csv(tmp_path / "run/recbole/labelled/labelled.inter", sep="\t")
    assert (labels["label:float"] == 0).sum() == 12, (
        "before the reference, each user has met all items but two, it among them"
    )
    met = {(user, item) for user, item, n in rows if n < 5}
    unseen = labels[labels["label:float"] == 0]
    assert not met & set(zip(unseen["user_id:token"], unseen["item_id:token"], strict=True))
    assert (tmp_path / "run/ranker/judge/model.safetensors").is_file()


def test_load_col_decides_the_texts_where_nothing_else_does(small, tmp_path, write_config):
    images = f"recgen.images={small / 'images'}"
    tables = stage(
        tmp_path, write_config, images, "load_col={inter: [user_id, item_id], item: [item_id, kind]}"
    )
    assert set(tables["items"]["text"]) == {"war"}


def test_load_col_that_names_the_id_alone_leaves_all_texts(small, tmp_path, write_config):
    images = f"recgen.images={small / 'images'}"
    tables = stage(tmp_path, write_config, images, "load_col={inter: [user_id, item_id], item: [item_id]}")
    assert tables["items"]["text"].tolist()[0].endswith(" war")


@pytest.mark.parametrize(
    "columns", ["inter: [user_id, item_id, stars]", "inter: [user_id, item_id], item: [item_id, titel]"]
)
def test_load_col_that_names_no_column(small, tmp_path, write_config, columns):
    with pytest.raises(
        UserError, match=r"small\.(inter|item): found columns .*expected a column '(stars|titel)'"
    ):
        stage(tmp_path, write_config, f"recgen.images={small / 'images'}", f"load_col={{{columns}}}")


def test_a_threshold_without_ratings_is_said(small, tmp_path, write_config, caplog):
    rows = (tmp_path / "small/small.inter").read_text().splitlines()
    kept = ["\t".join(row.split("\t")[i] for i in (0, 1, 3)) for row in rows]
    (tmp_path / "small/small.inter").write_text("\n".join(kept) + "\n")
    stage(tmp_path, write_config, f"recgen.images={small / 'images'}")
    assert (
        "recgen.like_threshold is 4, and there is no column 'rating': every interaction counts as a like"
        in caplog.text
    )


def test_posters_are_counted_while_they_are_drawn(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("recgen.data.catalogue.show", lambda *step: said.append(step))
    films = pd.DataFrame({"class": ["Drama"] * 3, "release_year": ["1994"] * 3}, index=["1", "2", "3"])
    render_posters(list(films.index), films, tmp_path, 0, "mine.yaml")
    assert said == [("posters drawn", number, 3) for number in (1, 2, 3)]
