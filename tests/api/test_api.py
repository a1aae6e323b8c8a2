"""The Python API on a real run: what it returns, what it draws, what it refuses, what it leaves alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recgen
from recgen.api import report_again
from recgen.runs import Run


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=int)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path): (status.st_size, status.st_mtime_ns) for path, status in found.items()}


def test_importing_imports_nothing_heavy():
    heavy = "{'torch', 'pandas', 'numpy', 'pydantic', 'recbole'}"
    program = f"import sys, recgen; print(len({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_every_public_name_is_there():
    for name in recgen.__all__:
        assert getattr(recgen, name) is not None and name in dir(recgen)
    with pytest.raises(AttributeError):
        recgen.nothing  # noqa: B018


def test_a_run_is_opened_with_its_tables(run):
    opened = recgen.open(run.folder)
    assert opened.generators == ["stable_diffusion", "ip_adapter"]
    assert opened.metrics["creatives"]["ip_adapter"]["delta_r_judge"]["n"] == 3
    assert opened.metrics["run"]["backbone"] is not None, "a generator has drawn with it"
    assert len(opened.creatives) == 6 and len(opened.requests) == 3 and len(opened.per_request) == 6
    assert opened.report.read_text(encoding="utf-8").startswith("<!")
    row = opened.creatives.iloc[0]
    assert Path(row["path"]).is_file() and row["recipe"]["user"] == row["user_id"]
    assert isinstance(opened.requests[0], recgen.Request)


def test_settings_reach_the_configuration(run):
    settings = run.context.settings
    assert settings.requests == 3 and settings.ranker.settings == {"Verifier": {"hidden_size": 8}}
    assert run.context.config.recbole["epochs"] == 2


@pytest.mark.parametrize("name", ["stable_diffusion", "ip_adapter"])
def test_a_drawn_request_has_the_runs_pixels(run, name):
    row = run.creatives[run.creatives["generator"] == name].iloc[1]
    creative = run.draw(row["user_id"], row["item_id"], name)
    assert isinstance(creative, recgen.Creative) and creative.recipe == row["recipe"]
    assert creative.seconds == row["seconds"] > 0
    assert (pixels(creative.image) == pixels(Image.open(row["path"]))).all()


@pytest.mark.parametrize("name", ["stable_diffusion", "ip_adapter"])
def test_drawing_it_again_draws_the_same(run, name):
    row = run.creatives[run.creatives["generator"] == name].iloc[1]
    again = run._draw(name, run.request_for(row["user_id"], row["item_id"]))
    assert again.recipe == row["recipe"]
    assert abs(pixels(again.image) - pixels(Image.open(row["path"]))).max() <= 1  # drawn in another batch


def test_any_pair_can_be_drawn_and_nothing_is_written(run):
    asked = {(request.user_id, request.item_id) for request in run.requests}
    data = run.context.data
    user, item = next((u, i) for u in data.user_ids for i in data.item_ids if (u, i) not in asked)
    before = contents(run.folder)
    first, again = run.draw(user, item, "ip_adapter"), recgen.open(run.folder).draw(user, item, "ip_adapter")
    assert (pixels(first.image) == pixels(again.image)).all() and first.recipe == again.recipe
    other = run.draw(user, data.item_ids[-1], "ip_adapter")
    assert (pixels(first.image) != pixels(other.image)).any()
    assert contents(run.folder) == before


def test_a_new_request_is_made_as_the_runs_own_are(run):
    for request in run.requests:
        assert run._new_request(request.user_id, request.item_id) == request


def test_a_new_request_knows_no_test_interaction(run):
    table = run.context.interactions
    for request in run.requests:
        held_out = set(table[(table["user_id"] == request.user_id) & (table["split"] == "test")]["item_id"])
        for item in run.context.data.item_ids[:5]:
            if item not in held_out:
                made = run._new_request(request.user_id, item)
                assert made.history and not held_out & set(made.history) and item not in made.history


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", "0", "ip_adapter"), "no such user"),
        (("0", "nothing", "ip_adapter"), "no such item"),
        (("0", "0", "ip_adaptor"), "Did you mean 'ip_adapter'"),
        (("0", "0", None), "none named"),
    ],
)
def test_mistakes_are_told(run, arguments, says):
    user, item, name = arguments
    user = run.context.data.user_ids[0] if user == "0" else user
    item = run.context.data.item_ids[0] if item == "0" else item
    with pytest.raises(recgen.UserError, match=says):
        run.draw(user, item, name)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(recgen.UserError, match=r"no config\.yaml"):
        recgen.open(tmp_path)
    (tmp_path / "config.yaml").write_text("dataset: x\n")
    with pytest.raises(recgen.UserError, match=r"no metrics\.json.*--until evaluate"):
        recgen.open(tmp_path).metrics  # noqa: B018


def test_a_report_elsewhere_leaves_the_run_alone(run, tmp_path):
    before = contents(run.folder)
    assert report_again(str(run.folder), (), str(tmp_path / "again.html")).is_file()
    assert contents(run.folder) == before


def test_a_read_only_run_is_exported(run, tmp_path, monkeypatch):
    from recgen.export import export

    def refuse(path: Path, *arguments: object, **named: object) -> None:
        raise PermissionError(13, "read-only", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("recgen.pipeline.workspace.try_lock", refuse)
    before = contents(run.folder)
    export(str(run.folder), str(tmp_path), "mine", "ip_adapter")
    assert (tmp_path / "mine/mine.inter").is_file() and contents(run.folder) == before


def test_images_made_elsewhere_are_judged(run, tmp_path):
    rows = run.creatives[run.creatives["generator"] == "ip_adapter"]
    (tmp_path / "mine").mkdir()
    for path in rows["path"]:
        shutil.copy(path, tmp_path / "mine")
    table = rows[["user_id", "item_id"]].assign(path=[Path(path).name for path in rows["path"]])
    table.to_csv(tmp_path / "mine/manifest.csv", index=False)
    out = run.folder.parent / "elsewhere"
    judged = recgen.evaluate(run.folder / "config.yaml", tmp_path / "mine", out)
    assert isinstance(judged, Run) and judged.generators == ["mine"]
    mine, own = judged.metrics["creatives"]["mine"], run.metrics["creatives"]["ip_adapter"]
    assert mine["delta_r_judge"] == own["delta_r_judge"]
