"""What a user can get wrong: each mistake is one message that names it, and exit status 2; broken images stop nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from recgen import cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


@pytest.fixture
def own_data(dataset, tmp_path) -> Path:
    """A copy of the data set to spoil."""
    shutil.copytree(dataset, tmp_path / "data/tiny")
    return tmp_path / "data/tiny"


def build(config: Path, folder: Path, *overrides: str) -> None:
    """Run the dataset stage."""
    pipeline.execute(RunContext(load_config(str(config), overrides), folder), until="dataset")


def mistake(config: Path, folder: Path, *overrides: str) -> str:
    """Return the message of the mistake that the dataset stage finds."""
    with pytest.raises(UserError) as caught:
        build(config, folder, *overrides)
    return str(caught.value)


def at(own_data: Path) -> tuple[str, str]:
    """Point a configuration at the spoilt copy."""
    return f"data_path={own_data.parent}", f"recgen.images={own_data / 'images'}"


def test_three_broken_images_are_listed_and_their_items_keep_their_text(own_data, write_config, tmp_path):
    images = own_data / "images"
    whole = (images / "i3.png").read_bytes()
    (images / "i3.png").write_bytes(whole[: len(whole) // 2])
    (images / "i4.png").write_text("not an image")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(images / "i5.png", save_all=True, append_images=frames[1:])
    build(write_config(tmp_path), tmp_path / "run", *at(own_data), "recgen.max_bad_images=0.1")
    bad = json.loads((tmp_path / "run/dataset/bad_images.json").read_text())
    assert [entry["item_id"] for entry in sorted(bad, key=lambda entry: entry["item_id"])] == [
        "i3",
        "i4",
        "i5",
    ]
    assert {entry["item_id"]: entry["reason"].split(" (")[0] for entry in bad} == {
        "i3": "cannot be decoded", "i4": "not a JPEG, PNG or WebP file", "i5": "animated",
    }  # fmt: skip
    items = pd.read_parquet(tmp_path / "run/dataset/items.parquet").set_index("item_id")
    assert items.loc[["i3", "i4", "i5"], "image"].isna().all() and items["image"].notna().sum() == 27
    assert items.loc["i3", "text"] == "number 3 war film"


def test_too_many_broken_images_stop_the_run(own_data, write_config, tmp_path):
    for item in (3, 4, 5):
        (own_data / f"images/i{item}.png").write_bytes(b"")
    message = mistake(write_config(tmp_path), tmp_path / "run", *at(own_data))
    assert (
        "3 of 30 images unusable" in message
        and ".png (empty file) and 2 more" in message
        and "max_bad_images" in message
    )


def test_a_missing_column_is_named_with_the_nearest_one(own_data, write_config, tmp_path):
    file = own_data / "tiny.inter"
    file.write_text(file.read_text().replace("item_id:token", "itemid:token", 1))
    message = mistake(write_config(tmp_path), tmp_path / "run", *at(own_data))
    assert (
        message.startswith(f"{file}: found columns user_id, itemid")
        and "'item_id'" in message
        and "'itemid'?" in message
    )


def test_a_number_that_is_none_is_named_with_its_row(own_data, write_config, tmp_path):
    file = own_data / "tiny.inter"
    lines = file.read_text().split("\n")
    lines[7] = lines[7].rsplit("\t", 2)[0] + "\tgreat\t5"
    file.write_text("\n".join(lines))
    message = mistake(write_config(tmp_path), tmp_path / "run", *at(own_data))
    assert "tiny.inter, row 8, column rating: found 'great'; expected a number" in message


def test_an_item_listed_twice_is_named_with_its_rows(own_data, write_config, tmp_path):
    with (own_data / "tiny.item").open("a") as file:
        file.write("i7\tagain\twar film\n")
    assert "rows 9, 32: found item_id 'i7' more than once" in mistake(
        write_config(tmp_path), tmp_path / "run", *at(own_data)
    )


def test_a_missing_data_set(write_config, tmp_path):
    assert "absent.inter: found no such file" in mistake(
        write_config(tmp_path), tmp_path / "run", "dataset=absent"
    )


def test_a_folder_without_any_of_the_images(write_config, tmp_path):
    (tmp_path / "empty").mkdir()
    message = mistake(write_config(tmp_path), tmp_path / "run", f"recgen.images={tmp_path / 'empty'}")
    assert "no image of any item" in message and "image_ids" in message


def test_a_column_of_paths_may_not_leave_the_data_set(own_data, write_config, tmp_path):
    rows = (own_data / "tiny.item").read_text().strip().split("\n")
    rows = [f"{row}\t{'image:token' if n == 0 else '../../secret.png'}" for n, row in enumerate(rows)]
    (own_data / "tiny.item").write_text("\n".join(rows) + "\n")
    message = mistake(write_config(tmp_path), tmp_path / "run", at(own_data)[0], "recgen.images=null")
    assert "'../../secret.png'" in message and "inside" in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("recgen.generator=[toy]", ["recgen.generator: found an unknown key", "'generators'?"]),
        ("recgen.toy.strenth=0.1", ["recgen.toy.strenth: found an unknown key", "'strength'?"]),
        ("recgen.toy.strength=2", ["recgen.toy.strength: found 2", "less than or equal to 1"]),
        ("recgen.downstream.seed=2", ["recgen.downstream.seed: found an unknown key", "'seeds'?"]),
        ("recgen.generators=[toyy]", ["recgen.generators: found 'toyy'", "'toy'?"]),
        ("recgen.ranker.judge=MICRA", ["recgen.ranker.judge: found 'MICRA'", "'MICRO'?"]),
        ("recgen.seed=many", ["recgen.seed: found 'many'", "valid integer"]),
        ("recgen.seed=[1", ["--set recgen.seed=[1", "safe YAML"]),
        ("recgen.images=!!python/object/apply:os.system [ls]", ["safe YAML"]),
        ("dataset.x=1", ["dataset = 'tiny'", "a key that holds other keys"]),
    ],
)
def test_a_wrong_key_or_value_is_named(write_config, tmp_path, override, parts):
    with pytest.raises(UserError) as caught:
        load_config(str(write_config(tmp_path)), [override])
    for part in parts:
        assert part in str(caught.value)


def test_values_of_set_are_yaml(write_config, tmp_path):
    config = load_config(
        str(write_config(tmp_path)),
        ["recgen.toy.strength=1e-1", "learning_rate=1e-3", "recgen.requests=null"],
    )
    assert config.generators["toy"].settings == {"strength": 0.1, "brightness": 0.0, "pause": 0.0}
    assert config.recbole["learning_rate"] == 0.001
    assert config.settings.requests is None
    assert config.resolved()["recgen"]["toy"] == {"strength": 0.1, "brightness": 0.0, "pause": 0.0}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "--config", "demoo"], 2, "Did you mean 'demo'?"),
        (["run", "--config", "tiny.yaml", "--until", "evaluat"], 2, "Did you mean 'evaluate'?"),
        (["run", "--config", "tiny.yaml", "--set", "recgen.sed=1"], 2, "Did you mean 'seed'?"),
        (["report", "--run", "nowhere"], 2, "metrics"),
        (["run"], 2, "Missing option '--config'"),
    ],
)
def test_mistakes_exit_with_2_and_without_a_traceback(
    write_config, tmp_path, monkeypatch, capsys, arguments, status, said
):
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["recgen", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    error = capsys.readouterr().err
    assert exit_.value.code == status and said in error and "Traceback" not in error


def test_anything_else_exits_with_1_and_names_the_log(write_config, tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["recgen", "run", "--config", str(config), "--out", str(tmp_path / "run")]
    )
    monkeypatch.setattr("recgen.stages.dataset.build", lambda run: 1 / 0)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    error = capsys.readouterr().err
    assert exit_.value.code == 1 and "ZeroDivisionError" in error and str(tmp_path / "run/log.txt") in error
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()
