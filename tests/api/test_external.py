"""Images made elsewhere: another program learns what is asked for, and its images are judged as a generator's."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from command_line import command
from PIL import Image

from recgen import api as session
from recgen import external
from recgen.core.errors import UserError
from recgen.export import export


@pytest.fixture(scope="module")
def home(tmp_path_factory, write_config) -> Path:
    """A working folder with a finished run of a generator in it."""
    folder = tmp_path_factory.mktemp("home")
    write_config(folder, downstream={"seeds": 1, "items": 3})
    session.run(str(folder / "tiny.yaml"), str(folder / "runs/tiny"), ())
    return folder


def draw(tables: Path, folder: Path, leave_out: int = 0) -> Path:
    """Do what another program does: read the tables, make every image a mean of the history's, write a manifest."""
    folder.mkdir()
    images = {
        row["item_id"]: row["image"] for row in csv.DictReader((tables / "items.csv").open(encoding="utf-8"))
    }
    asked = list(csv.DictReader((tables / "requests.csv").open(encoding="utf-8")))
    rows = []
    for number, row in enumerate(asked[leave_out:]):
        liked = [Image.open(images[item]) for item in json.loads(row["history"])]
        made = liked[0].convert("RGB")
        for weight, image in enumerate(liked[1:], start=2):
            made = Image.blend(made, image.convert("RGB"), 1 / weight)
        made.save(folder / f"{number}.png")
        rows.append([row["user_id"], row["item_id"], f"{number}.png"])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["user_id", "item_id", "path"], *rows])
    return folder


@pytest.fixture(scope="module")
def tables(home) -> Path:
    """The tables for another program, from the run that is there."""
    told = external.write_requests(str(home / "tiny.yaml"), str(home / "asked"), str(home / "runs/tiny"), ())
    assert "12 images are asked for" in told and "recgen evaluate --config" in told
    return home / "asked"


def test_the_tables_hold_no_reference(home, tables):
    asked = pd.read_csv(tables / "requests.csv")
    known = pd.read_csv(tables / "interactions.csv")
    pairs = set(zip(asked["user_id"], asked["item_id"], strict=True))
    assert len(pairs) == 12 and not pairs & set(zip(known["user_id"], known["item_id"], strict=True))
    assert not any(
        item in json.loads(history) for item, history in zip(asked["item_id"], asked["history"], strict=True)
    )
    items = pd.read_csv(tables / "items.csv").set_index("item_id")
    assert items.loc["i3", "text"] == "number 3 war film" and Path(items.loc["i3", "image"]).is_file()
    assert known["like"].sum() > 0 and not known["like"].all()


def test_its_images_are_judged(home, tables, monkeypatch, capsys):
    """The same metrics as for a generator, in a run of its own that takes over what the first one has trained."""
    made = draw(tables, home / "outside")
    mine = export(str(home / "runs/tiny"), str(home), "again", images=True, everything=True)
    assert "again" in mine
    before = (home / "runs/tiny/metrics.json").read_bytes()
    monkeypatch.chdir(home)
    external.evaluate("tiny.yaml", [str(made), "toy_again=again/creatives"], None, ())
    folder = home / "runs/tiny-outside-toy_again"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["creatives"]) == {"outside", "toy_again"} and (folder / "report.html").is_file()
    assert metrics["run"]["backbone"] is None, "it has drawn none of them"
    assert set(metrics["downstream"]) == {
        "ORI",
        "SHUFFLED",
        "NONE",
        "RANDOM",
    }  # nobody can be asked for more of them
    own = json.loads(before)
    assert (home / "runs/tiny/metrics.json").read_bytes() == before
    for metric in ("delta_r_judge", "cis", "cpis", "verifier_score"):
        assert metrics["creatives"]["toy_again"][metric] == own["creatives"]["toy"][metric], (
            "the same images, the same verdict"
        )
    log = (folder / "log.txt").read_text()
    assert "ranker/judge: taken from tiny" in log and "features: taken from tiny" in log
    taken = log.count(": taken from tiny")
    done, of = map(int, re.search(r"(\d+) of (\d+) tasks done in", log).groups())
    assert f"Plan: {done} of {of} tasks to do" in log and done == of - taken, "time is told of the rest alone"
    words = ("--config", "tiny.yaml", "--creatives", str(made), "toy_again=again/creatives")
    assert command(monkeypatch, "evaluate", *words) == 0
    said = capsys.readouterr().out
    assert "In short:" in said and said.rstrip().endswith("runs/tiny-outside-toy_again/report.html")


def test_missing_images_are_told_before_anything_is_trained(home, tables, tmp_path):
    made = draw(tables, tmp_path / "few", leave_out=5)
    with pytest.raises(UserError, match=r"no usable image for 5 of 12 requests"):
        external.evaluate(str(home / "tiny.yaml"), [str(made)], str(tmp_path / "run"), ())
    assert not (tmp_path / "run/ranker").exists() and not (tmp_path / "run/features").exists()


@pytest.mark.parametrize(
    ("creatives", "says"),
    [
        (["absent"], "no folder absent"),
        (["ragar=."], "stands for something else.*NAME=DIR"),
        (["a b=."], "letters, digits"),
        (["x=.", "x=.."], "names that differ"),
    ],
)
def test_mistakes_are_explained(home, tmp_path, creatives, says):
    with pytest.raises(UserError, match=says):
        external.evaluate(str(home / "tiny.yaml"), creatives, str(tmp_path / "run"), ())
