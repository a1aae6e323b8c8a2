"""What a converter noted about a data set reaches the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_page import by_id, read
from report_run import make_run

from recgen.report import build
from recgen.report.run_files import RunFiles


def note(run: Path, text: str) -> Path:
    (run / "dataset").mkdir(exist_ok=True)
    (run / "dataset/provenance.json").write_text(text, encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("provenance") / "run")


def test_users_who_are_no_people_are_named_at_the_top(run):
    dropped = [{"what": "items", "why": "<b>no image</b>", "count": 1234, "first": "row 1"}]
    noted = {"source": "table", "users": "simulated: by <chance>", "kept": {"users": 600}, "dropped": dropped}
    page = read(build(note(run, json.dumps(noted))))
    assert "simulated: by <chance>" in by_id(page, "not-people").text
    told = by_id(page, "provenance").text
    assert "table" in told and "600 users" in told and "1,234" in told and "<b>no image</b>" in told


def test_people_are_not_called_anything_else(run):
    noted = {"source": "MovieLens", "variant": "1M", "kept": {"users": 600}, "dropped": []}
    page = read(build(note(run, json.dumps(noted))))
    assert not page.all(id="not-people") and "MovieLens 1M" in by_id(page, "provenance").text


def test_a_file_of_that_name_that_no_converter_wrote(run):
    for text in (
        "[]",
        '{"kept": 3}',
        '{"source": "x", "kept": {}, "dropped": [{"count": "many"}]}',
        '"text"',
        "{",
    ):
        assert RunFiles.read(note(run, text)).provenance == {}, text
