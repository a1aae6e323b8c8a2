"""The commands on a real run: what they print, former names, and plans that change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from recgen.cli import recgen

FORMER = {"--least": "--min-likes", "--imaged": "--with-images-only", "--pictured": "--with-images-only"}


def command(*words: object) -> Result:
    return CliRunner().invoke(recgen, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize("group", [(), ("data",), ("data", "prepare"), ("survey",)])
def test_the_lists_of_commands_are_not_cut_short(group):
    listed = (
        CliRunner().invoke(recgen, [*group, "--help"], terminal_width=80).output.partition("Commands:")[2]
    )
    assert listed.strip() and "..." not in listed


def test_an_image_is_drawn_with_its_recipe(run, tmp_path):
    row = run.creatives[run.creatives["generator"] == "ip_adapter"].iloc[0]
    where, out = ("--run", run.folder, "--generator", "ip_adapter"), tmp_path / "x.png"
    done = command("draw", *where, "--user", row["user_id"], "--item", row["item_id"], "--out", out)
    assert done.exit_code == 0 and str(out) in done.output
    assert json.loads(Image.open(out).text["recgen"]) == row["recipe"]
    assert out.read_bytes() == Path(row["path"]).read_bytes()


def test_results_are_a_table(run):
    lines = command("show", "--run", run.folder).output.splitlines()
    head = next(line for line in lines if line.startswith("Images"))
    assert head.split()[1:] == ["stable_diffusion", "ip_adapter"]
    value = run.metrics["creatives"]["ip_adapter"]["cis"]["value"]
    assert any(line.startswith("CIS") and f"{value:.1f}" in line for line in lines)


def test_a_plan_says_what_is_done(run):
    same = ("run", "--config", run.folder / "config.yaml", "--out", run.folder, "--dry-run")
    before = sorted(run.folder.rglob("*"))
    assert "\n0 of " in command(*same).output
    again = command(*same, "--force", "downstream").output
    assert "to do  downstream/ORI/0" in again and "done   evaluate" in again
    assert sorted(run.folder.rglob("*")) == before


def test_a_plan_of_a_run_that_is_not_there_makes_nothing(tmp_path):
    out = tmp_path / "new"
    said = command("run", "--config", "simulated", "--out", out, "--until", "features", "--dry-run").output
    assert "to do  dataset  " in said and "ranker" not in said and not out.exists()


def test_generators_and_models_are_listed_with_their_defaults():
    listed = command("generators").output
    section = listed.partition("\nragar:")[2].partition("\n\n")[0]
    assert any(line.split()[:3] == ["k", "int", "5"] for line in section.splitlines())
    assert any(line.split()[:3] == ["decode.steps", "int", "50"] for line in listed.splitlines())
    assert "knn_k" in command("models").output


@pytest.mark.parametrize("former", sorted(FORMER))
def test_former_options_work_with_a_note(former, tmp_path):
    value = ["4"] if former == "--least" else []
    done = command("data", "prepare", "table", "--help")
    assert former not in done.output and FORMER[former] in done.output
    with pytest.raises(Exception, match=r"items\.csv|--raw|interactions"):
        command("data", "prepare", "table", "--raw", tmp_path, "--out", tmp_path / "o", former, *value)


def test_the_former_group_is_hidden_and_works(run, tmp_path):
    assert " study" not in command("--help").output
    done = command("study", "make", "--run", run.folder, "--out", tmp_path / "ask.html", "--items", "2")
    assert "survey now" in done.output and (tmp_path / "ask.html").is_file()
