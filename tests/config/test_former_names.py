"""What earlier versions wrote: keys and generators of a YAML under their former names, and the folder of a finished run."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recgen import cli
from recgen.config.loader import Config, load_config
from recgen.core.errors import UserError
from recgen.export import export, open_run
from recgen.report import build
from recgen.stages.generate import creatives

OLD = Path(__file__).parents[1] / "fixtures/old_run"


def loaded(tmp_path: Path, ours: dict, *overrides: str, **recbole) -> Config:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"dataset": "ml-100k", **recbole, "recgen": ours}))
    return load_config(str(path), overrides)


@pytest.fixture
def notes(caplog):
    """A function that returns what was said of former names so far."""
    caplog.set_level(logging.WARNING, "recgen")
    return lambda: [record.message for record in caplog.records if "is called" in record.message]


@pytest.fixture
def old_run(tmp_path, monkeypatch) -> Path:
    """A run's folder, its data and its YAML, all made by an earlier version; the working folder is the one that it had."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return Path("runs/tiny")


@pytest.mark.parametrize(
    ("ours", "recbole", "read", "value", "says"),
    [
        ({"chunk": 7}, {}, lambda c: c.settings.shard_size, 7, "recgen.shard_size"),
        ({"target": "validation"}, {}, lambda c: c.settings.eval_split, "validation", "recgen.eval_split"),
        (
            {"obtain": {"get": "a", "into": "b", "prepare": "c"}},
            {},
            lambda c: c.settings.download.into,
            "b",
            "recgen.download",
        ),
        ({"tags": {"picture": "x/y"}}, {}, lambda c: c.settings.tags.image, "x/y", "recgen.tags.image"),
        (
            {},
            {"picture_bias_reg_weight": 0.5},
            lambda c: c.recbole["image_bias_reg_weight"],
            0.5,
            "image_bias_reg_weight",
        ),
        (
            {"ranker": {"settings": {"VBPR": {"picture_bias_reg_weight": 0.5}}}},
            {},
            lambda c: c.settings.ranker.settings["VBPR"],
            {"image_bias_reg_weight": 0.5},
            "recgen.ranker.settings.VBPR.image_bias_reg_weight",
        ),
        ({"backbone": "demo-sd-films"}, {}, lambda c: c.settings.backbone, "demo-sd", "demo-sd"),
        (
            {"backbone": "demo-sd", "ip_adapter": "demo-ip-adapter-films"},
            {},
            lambda c: c.settings.ip_adapter,
            "demo-ip-adapter",
            "demo-ip-adapter",
        ),
        (
            {"generators": ["dreambooth"], "dreambooth": {"prior_pictures": 3}},
            {},
            lambda c: c.generators["dreambooth"].settings["prior_images"],
            3,
            "recgen.dreambooth.prior_images",
        ),
        (
            {"generators": ["mine"], "mine": {"generator": "textual_inversion", "pictures_per_step": 3}},
            {},
            lambda c: c.generators["mine"].settings["images_per_step"],
            3,
            "recgen.mine.images_per_step",
        ),
        (
            {
                "generators": ["dreambooth"],
                "tune": {"space": {"dreambooth.pictures_per_step": {"low": 1, "high": 2}}},
            },
            {},
            lambda c: list(c.settings.tune.space),
            ["dreambooth.images_per_step"],
            "recgen.tune.space.dreambooth.images_per_step",
        ),
    ],
)
def test_a_former_key_is_read_with_one_note(tmp_path, notes, ours, recbole, read, value, says):
    assert read(loaded(tmp_path, ours, **recbole)) == value
    (note,) = notes()
    assert note.endswith(f"is called {says} now; the old name works in this version")


def test_pictures_of_a_data_set_to_obtain(tmp_path, notes):
    obtain = {"get": "a", "into": "b", "prepare": "c", "pictures": "d"}
    assert loaded(tmp_path, {"obtain": obtain}).settings.download.images == "d"
    assert len(notes()) == 2


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("recgen.chunk=7", lambda c: c.settings.shard_size, 7),
        ("recgen.target=validation", lambda c: c.settings.eval_split, "validation"),
        ("recgen.obtain.pictures=d", lambda c: c.settings.download.images, "d"),
        (
            "recgen.obtain={get: x, into: y, prepare: z, pictures: p}",
            lambda c: c.settings.download.images,
            "p",
        ),
        ("picture_bias_reg_weight=0.5", lambda c: c.recbole["image_bias_reg_weight"], 0.5),
        (
            "recgen.ip_adapter.prompt=none",
            lambda c: c.generators["ip_adapter_mean"].settings["prompt"],
            "none",
        ),
        ("recgen.ip_adapter.ip_adapter=null", lambda c: c.settings.ip_adapter, None),
    ],
)
def test_a_former_key_works_on_the_command_line_over_todays(tmp_path, notes, override, read, value):
    today = {
        "shard_size": 9,
        "eval_split": "test",
        "download": {"get": "a", "into": "b", "prepare": "c"},
        "generators": ["ip_adapter_mean"],
        "ip_adapter_mean": {"prompt": "text"},
        "ip_adapter": "mine.safetensors",
    }
    assert read(loaded(tmp_path, today, override, image_bias_reg_weight=0.1)) == value
    assert len(notes()) in (1, 2)


def test_todays_names_need_no_note(tmp_path, notes):
    loaded(tmp_path, {"shard_size": 3, "generators": ["ip_adapter_mean"], "ip_adapter": "a.safetensors"})
    assert notes() == []


def test_both_names_at_once_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match="both chunk and shard_size"):
        loaded(tmp_path, {"chunk": 3, "shard_size": 4})


@pytest.mark.parametrize(
    "given, adapter, prompt",
    [
        ({}, "demo-ip-adapter", "text"),
        ({"ip_adapter": "mine.safetensors"}, "mine.safetensors", "text"),
        ({"ip_adapter": None}, None, "text"),
        ({"ip_adapter": {"prompt": "none"}}, "demo-ip-adapter", "none"),
        ({"ip_adapter": {"ip_adapter": "mine.safetensors", "prompt": "none"}}, "mine.safetensors", "none"),
        ({"ip_adapter": {"ip_adapter": None}}, None, "text"),
    ],
)
def test_the_generator_that_shared_its_name_with_a_setting(tmp_path, given, adapter, prompt):
    config = loaded(tmp_path, {"generators": ["ip_adapter"], **given})
    spec = config.generators["ip_adapter"]
    assert config.settings.ip_adapter == adapter
    assert (spec.kind, spec.settings["prompt"]) == ("ip_adapter_mean", prompt)
    resolved = config.resolved()["recgen"]
    assert resolved["ip_adapter"] == adapter and resolved["ip_adapter_mean"]["prompt"] == prompt
    again = loaded(tmp_path, resolved)
    assert again.settings == config.settings and again.generators == config.generators


@pytest.mark.parametrize(
    "wrong", [{"ip_adapter": 5}, {"ip_adapter": {"ip_adapter": 5}}, {"ip_adapter": {"promt": "none"}}]
)
def test_mistakes_under_the_shared_name_are_named(tmp_path, wrong):
    with pytest.raises(UserError, match=r"recgen\.ip_adapter"):
        loaded(tmp_path, {"generators": ["ip_adapter"], **wrong})


def test_the_yaml_of_an_old_run_says_the_same_today(old_run):
    """But for what is the backbone's by now, and was the same for all: the demo's strength and batch; and `precision: auto`."""
    given = load_config("tiny.yaml", ["recgen.profile=demo-sd"])
    resolved = open_run(str(old_run)).config
    at_the_time = given.settings.model_copy(update={"precision": "float32", "profile": "auto"})
    assert at_the_time == resolved.settings and given.generators == resolved.generators
    assert resolved.settings.shard_size == 5 and list(resolved.generators) == [
        "stable_diffusion",
        "ip_adapter",
    ]


def test_an_old_run_is_opened(old_run):
    run = open_run(str(old_run))
    assert len(run.requests) == 6 and len(run.items) == 30
    assert all(run.image(path).is_file() for path in run.items["image"])
    for name in run.settings.generators:
        rows, embeddings = creatives(run, name)
        assert rows["user_id"].tolist() == [request.user_id for request in run.requests]
        assert embeddings.shape == (6, 16)


def test_the_report_of_an_old_run_is_written_again(old_run):
    text = build(old_run).read_text(encoding="utf-8")
    metrics = json.loads((old_run / "metrics.json").read_text(encoding="utf-8"))
    assert "ip_adapter" in text and "stable_diffusion" in text
    assert set(metrics["creatives"]) == {"stable_diffusion", "ip_adapter"}
    assert text.count("data:image/") > 12, "the images of four requests"


@pytest.mark.parametrize("source", ["ip_adapter", "stable_diffusion", "ORI"])
def test_an_old_run_is_exported(old_run, source):
    export(str(old_run), "out", "mine", source, images=source != "ORI")
    items = Path("out/mine/mine.item").read_text(encoding="utf-8").split("\n")
    assert len(items) - 2 == 30
    if source != "ORI":
        assert len(pd.read_csv("out/mine/creatives/manifest.csv")) == 6


def test_a_questionnaire_is_made_of_an_old_run_by_the_old_command(old_run, monkeypatch, capsys):
    words = f"recgen study make --run {old_run} --out ask.html --items 3"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "3 questions on the images of" in capsys.readouterr().out
    assert Path("ask.html").stat().st_size > 5_000
