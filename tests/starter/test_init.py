"""`recgen init`: tables, MovieLens' files and atomic files become a configuration that runs."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from recgen import cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import session
from recgen.starter.found import look
from recgen.starter.start import estimate, init

KINDS = ("shirt", "hat", "shoes")


@pytest.fixture
def shop(tmp_path):
    """Twelve customers' orders of twenty products with photographs, under a shop's own names."""
    folder, rng = tmp_path / "shop", np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    for item in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(
            folder / f"photos/p{item}.jpg"
        )
    rows = [f"p{item};{KINDS[item % 3]};a {KINDS[item % 3]} number {item};{item}.50" for item in range(20)]
    (folder / "products.csv").write_text("Product ID;Kind;Full name;Price\n" + "\n".join(rows) + "\n")
    with (folder / "orders.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Customer", "Product ID", "Stars", "Date"])
        for user in range(12):
            for turn, item in enumerate(rng.choice(20, 10, replace=False)):
                writer.writerow([f"c{user}", f"p{item}", 5 if turn % 4 else 2, f"2024-01-{turn + 1:02d}"])
    return folder


def test_tables_are_told_apart(shop):
    found = look(shop)
    assert (
        found.kind == "tables"
        and found.log.path.name == "orders.csv"
        and found.items.path.name == "products.csv"
    )
    assert found.log.columns == {
        "user_id": "Customer",
        "item_id": "Product ID",
        "rating": "Stars",
        "timestamp": "Date",
    }
    assert found.images == shop / "photos"


def test_the_configuration_runs_unchanged(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli.recgen, ["init", "shop"])
    assert told.exit_code == 0, told.output
    assert "Plan: " in told.output and "recgen run --config shop.yaml" in told.output
    assert told.output.splitlines()[:3] == [
        "orders.csv: Customer as user_id, Product ID as item_id, Stars as rating, Date as timestamp",
        "products.csv: Product ID as item_id; others: Kind, Full name, Price",
        "images: shop/photos",
    ]
    assert "In the YAML" not in told.output, "it is written already"
    assert "symbols, not photographs" in told.output, "what the first run is worth"
    config = load_config("shop.yaml")
    assert config.settings.preset == "quick" and config.settings.like_threshold == 4
    assert config.settings.text_fields == ["Kind", "Full_name"], "words only, the shorter first"
    assert config.settings.workers == "auto", "a run has all cores of the machine"
    session.run("shop.yaml", until="features")
    items = (tmp_path / "runs/shop/features/image.ids.txt").read_text().split()
    assert len(items) == 20


@pytest.mark.parametrize("out", [".", "my shop", "2024"])
def test_any_folder_can_be_written_to(shop, tmp_path, monkeypatch, out):
    """A path that YAML would read as something else is quoted, the data's and the images' alike."""
    monkeypatch.chdir(tmp_path)
    init(shop, Path(out))
    config = load_config(f"{out}/shop.yaml")
    assert config.recbole["data_path"] == f"{Path(out) / 'data'}/"


def test_a_prepared_data_set_has_its_plan_from_the_folder_it_is_in(shop, tmp_path, monkeypatch):
    init(shop, tmp_path)
    monkeypatch.chdir(tmp_path / "data")
    assert "A first run, of preset quick" in estimate(Path("shop"))


def test_an_items_table_is_not_needed(shop, tmp_path):
    (shop / "products.csv").unlink()
    init(shop, tmp_path)
    assert load_config(str(tmp_path / "shop.yaml")).settings.text_fields == ["title"]


def test_images_may_be_named_by_a_column(shop, tmp_path):
    text = (shop / "products.csv").read_text().splitlines()
    rows = [text[0] + ";Photo", *(f"{line};photos/p{n}.jpg" for n, line in enumerate(text[1:]))]
    (shop / "products.csv").write_text("\n".join(rows) + "\n")
    (shop / "photos").rename(shop / "elsewhere")
    (shop / "elsewhere").rename(shop / "photos")
    init(shop, tmp_path)
    assert len(list((tmp_path / "data/shop/images").iterdir())) == 20


def test_a_column_that_divides_the_data_is_no_text(shop, tmp_path):
    """Of a column of train, test and valid nothing is told of an item; of one that has other words too it is."""
    first, *rows = (shop / "products.csv").read_text().splitlines()
    parts, words = ("Train", "test", "valid"), ("test", "train", "sleeper")
    rows = [f"{row};{parts[n % 3]};{words[n % 3]}" for n, row in enumerate(rows)]
    (shop / "products.csv").write_text("\n".join([f"{first};part;theme", *rows]) + "\n")
    init(shop, tmp_path)
    assert load_config(str(tmp_path / "shop.yaml")).settings.text_fields == ["Kind", "theme", "Full_name"]


def test_parquet_is_read_like_text(shop, tmp_path):
    import pandas as pd

    for name in ("orders", "products"):
        pd.read_csv(shop / f"{name}.csv", sep=";").to_parquet(shop / f"{name}.parquet")
        (shop / f"{name}.csv").unlink()
    init(shop, tmp_path)
    assert len((tmp_path / "data/shop/shop.inter").read_text().splitlines()) == 121


def test_movielens_is_known_and_rendered_without_posters(tmp_path):
    raw = tmp_path / "ml"
    raw.mkdir()
    movies = [f"{n},Film {n} ({1980 + n}),Comedy|War" for n in range(12)]
    (raw / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(movies) + "\n")
    ratings = [f"{u},{i},{4.5 if i % 3 else 2},{1000 + i}" for u in range(6) for i in range(u, u + 7)]
    (raw / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(ratings) + "\n")
    assert init(raw, tmp_path).startswith(
        "images: none, so posters of the films' genres are rendered; --images "
    )
    config = load_config(str(tmp_path / "ml.yaml"))
    assert config.settings.images == "rendered" and config.settings.backbone == "demo-sd"
    session.run(str(tmp_path / "ml.yaml"), str(tmp_path / "run"), until="dataset")
    assert len(list((tmp_path / "run/dataset/images").iterdir())) == 12


def test_atomic_files_are_taken_as_they_are(dataset, tmp_path):
    place = tmp_path / "tiny"
    shutil.copytree(dataset, place)
    init(place, tmp_path / "out")
    config = load_config(str(tmp_path / "out/tiny.yaml"))
    assert config.recbole["data_path"] == f"{tmp_path}/" and config.settings.images == str(place / "images")
    session.run(str(tmp_path / "out/tiny.yaml"), str(tmp_path / "run"), until="dataset")


@pytest.mark.parametrize(("interactions", "batch"), [(24_576, None), (24_575, 512), (6_186, 256), (50, 128)])
def test_few_interactions_get_small_batches(shop, tmp_path, interactions, batch):
    from recgen.starter.prepared import Prepared
    from recgen.starter.template import configuration

    made = init(shop, tmp_path) and Prepared(tmp_path / "data/shop", "data/shop/images", None, [], None)
    (tmp_path / "few.yaml").write_text(configuration(made, interactions, "x"))
    ranker = load_config(str(tmp_path / "few.yaml")).settings.ranker
    assert (ranker.reward, ranker.judge) == ("VBPR", "VBPR")
    settings = ranker.settings["VBPR"]
    assert settings.get("train_batch_size") == batch and settings["epochs"] == 60, "the rest is the preset's"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda shop: shutil.rmtree(shop), "no such folder"),
        (lambda shop: shutil.rmtree(shop / "photos"), "no images; expected a folder or zip"),
        (lambda shop: (shop / "orders.csv").unlink(), "products.csv: Product ID"),
        (lambda shop: (shop / "orders.csv").write_bytes(b"Customer;Product ID\n\xff;x\n"), "UTF-8"),
        (lambda shop: (shop.parent / "shop.yaml").touch(), "a name that is free"),
    ],
)
def test_what_cannot_be_read_is_said(shop, tmp_path, break_it, says):
    break_it(shop)
    with pytest.raises(UserError) as caught:
        init(shop, tmp_path)
    assert says in str(caught.value)
