"""Runs whose data lie at URLs make what they make of the same data in a folder; on S3 (moto's server) and in a plain folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import command

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.remote import Remote
from recgen.data.at_url import copy_of
from recgen.pipeline import pipeline, session
from recgen.pipeline.context import RunContext
from recgen.report.run_files import RunFiles


@pytest.fixture(params=["s3", "file"])
def url(request, dataset, tmp_path) -> str:
    """The folder of the data set `tiny`, as `data_path` names it."""
    place = f"file://{tmp_path}/far/data"
    if request.param == "s3":
        place = f"{request.getfixturevalue('bucket')}/{tmp_path.name}/data"
    put(f"{place}/tiny", dataset)
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Return what goes to another machine, with a disk of its own."""

    def go_to(name: str) -> None:
        monkeypatch.setenv("RECGEN_CACHE", str(tmp_path / name))

    go_to("first")
    return go_to


def put(url: str, folder: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    Remote(url).put(folder, names)


def at_url(path: Path, url: str, **changes) -> Path:
    """Return a configuration whose data are at an URL: the data set, and the images in a folder of it."""
    values = yaml.safe_load(path.read_text())
    values["data_path"] = f"{url}/"
    values["recgen"] |= {"images": f"{url}/tiny/images", **changes}
    written = path.with_name("at-url.yaml")
    written.write_text(yaml.safe_dump(values))
    return written


def execute(config: Path, folder: Path, until: str = "dataset") -> list[str]:
    return pipeline.execute(RunContext(load_config(str(config)), folder), until=until)


def items(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "dataset/items.parquet")


def test_the_data_set_is_the_one_of_a_local_folder_and_is_read_once(url, write_config, tmp_path, monkeypatch):
    local = write_config(tmp_path)
    execute(local, tmp_path / "local")
    config = at_url(local, url)
    assert execute(config, tmp_path / "run") == ["dataset", "dataset/requests"]
    for name in ("interactions", "requests"):
        made = [pd.read_parquet(tmp_path / run / f"dataset/{name}.parquet") for run in ("local", "run")]
        pd.testing.assert_frame_equal(*made)
    found = items(tmp_path / "run")
    assert found[["item_id", "text"]].equals(items(tmp_path / "local")[["item_id", "text"]])
    assert found["image"].tolist() == [f"{url}/tiny/images/{item}.png" for item in found["item_id"]]
    monkeypatch.setattr(Remote, "download", _none)
    assert execute(config, tmp_path / "run") == []
    assert execute(config, tmp_path / "other") == ["dataset", "dataset/requests"], "from the same copies"


def _none(self, sizes, drafts, arrived):
    raise AssertionError(f"{list(sizes)} is here already")


def test_what_has_changed_at_the_url_is_made_again(url, write_config, tmp_path):
    config = at_url(write_config(tmp_path), url)
    execute(config, tmp_path / "run")
    image = Remote(f"{url}/tiny/images").read("i3.png")
    Remote(f"{url}/tiny/images").commit("i4.png", image)
    assert execute(config, tmp_path / "run") == ["dataset", "dataset/requests"]
    assert (copy_of(f"{url}/tiny/images") / "i4.png").read_bytes() == image
    Remote(f"{url}/tiny").remove(["tiny.item"])
    assert execute(config, tmp_path / "run") == ["dataset", "dataset/requests"]
    assert set(items(tmp_path / "run")["text"]) == {""}, (
        "nor is the copy of a file read that is there no more"
    )


def test_another_machine_fetches_what_it_goes_on_with(url, write_config, tmp_path, cache):
    config = at_url(write_config(tmp_path), url)
    execute(config, tmp_path / "run")
    cache("second")
    run = RunContext(load_config(str(config)), tmp_path / "run")
    assert pipeline.execute(run, until="dataset") == []
    paths = [run.image(path) for path in run.items["image"]]
    assert all(path.is_file() and path.is_relative_to(tmp_path / "second") for path in paths)
    shown = RunFiles(tmp_path / "run", {}).items
    assert [shown[item][1] for item in run.items["item_id"]] == paths


def test_images_named_in_a_column_lie_beside_the_tables(url, dataset, write_config, tmp_path):
    table = (dataset / "tiny.item").read_text().splitlines()
    head, rows = table[0], table[1:]
    named = [f"{head}\timage:token", *(f"{row}\timages/{row.partition(chr(9))[0]}.png" for row in rows)]
    Remote(f"{url}/tiny").commit("tiny.item", "\n".join([*named, ""]).encode())
    config = at_url(write_config(tmp_path), url, images=None)
    execute(config, tmp_path / "run")
    found = items(tmp_path / "run")
    assert found["image"].tolist() == [f"{url}/tiny/images/{item}.png" for item in found["item_id"]]
    Remote(f"{url}/tiny").commit("images/i4.png", Remote(f"{url}/tiny").read("images/i3.png"))
    assert execute(config, tmp_path / "run") == ["dataset", "dataset/requests"]
    Remote(f"{url}/tiny").commit(
        "tiny.item", "\n".join([*named, ""]).replace("images/i1.", "../../i1.").encode()
    )
    with pytest.raises(UserError, match="expected a path inside"):
        execute(config, tmp_path / "run")


def test_names_of_images_and_features_lie_at_urls_too(url, dataset, write_config, tmp_path):
    tokens = [f"i{item}" for item in range(30)]
    for token in tokens:
        Remote(f"{url}/named").commit(f"{token}0.png", (dataset / f"images/{token}.png").read_bytes())
    Remote(url).commit("names.csv", b"item,file\n" + "".join(f"{t},{t}0\n" for t in tokens).encode())
    rows = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    np.save(tmp_path / "image.npy", rows)
    Remote(url).put(tmp_path, ["image.npy"])
    Remote(url).commit("image.ids.txt", "\n".join(tokens).encode())
    config = at_url(
        write_config(tmp_path),
        url,
        images=f"{url}/named",
        image_ids=f"{url}/names.csv",
        given_features={"image": f"{url}/image.npy"},
    )
    execute(config, tmp_path / "run", until="features")
    assert items(tmp_path / "run")["image"].notna().all()
    ids, found = RunContext(load_config(str(config)), tmp_path / "run").features("image")
    assert np.array_equal(found, rows[[tokens.index(token) for token in ids]])
    assert execute(config, tmp_path / "run", until="features") == []
    np.save(tmp_path / "image.npy", rows + 1)
    Remote(url).put(tmp_path, ["image.npy"])
    assert execute(config, tmp_path / "run", until="features") == ["features"]
    Remote(url).commit("names.csv", b"item,file\n")
    with pytest.raises(UserError, match="no image of any item"):
        execute(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data_path": "s3://no-such-bucket/data"},
            r"data_path s3://no-such-bucket/data/tiny: found FileNotFound",
        ),
        ({"data_path": "{url}/absent"}, r"data_path .*/absent/tiny: found FileNotFound"),
        ({"dataset": "small"}, r"data_path .*/small: found FileNotFound"),
        ({"recgen": {"images": "{url}/absent"}}, r"recgen.images .*/absent: found FileNotFound"),
        (
            {"recgen": {"images": "gopher://x/y"}},
            r"recgen.images gopher://x/y: found ValueError: Protocol not known",
        ),
        ({"recgen": {"image_ids": "{url}/absent.csv"}}, r"recgen.image_ids: found no file .*absent.csv"),
    ],
)
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_what_is_not_there_is_one_error_with_its_key(
    change, message, url, write_config, tmp_path, monkeypatch, capsys
):
    path = at_url(write_config(tmp_path), url)
    values = yaml.safe_load(path.read_text())
    changed = yaml.safe_load(yaml.safe_dump(change).replace("{url}", url))
    values["recgen"] |= changed.pop("recgen", {})
    path.write_text(yaml.safe_dump(values | changed))
    words = ["run", "--config", str(path), "--out", str(tmp_path / "run"), "--until", "dataset"]
    assert command(monkeypatch, *words) == 2
    found = capsys.readouterr().err
    assert pd.Series([found]).str.contains(message)[0], found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_run_of_data_on_s3_draws_what_one_of_a_local_folder_draws(
    workers, url, write_config, tmp_path, cache, monkeypatch
):
    """At an URL itself it is gone on with on a machine that has nothing at all."""
    local = write_config(tmp_path, workers=workers, controls=["original"])
    session.run(str(local), str(tmp_path / "local"), until="evaluate")
    config = at_url(local, url)
    for machine, until in (("first", "generator.fit"), ("second", "evaluate")):
        cache(machine)
        (tmp_path / machine).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / machine)
        folder = session.run(str(config), f"{url}/run", until=until)
        shutil.rmtree(tmp_path / "first", ignore_errors=True)
    made = [
        pd.read_parquet(each / "creatives/manifest.parquet")["sha256"]
        for each in (folder, tmp_path / "local")
    ]
    assert made[0].tolist() == made[1].tolist() and len(made[0]) > 10
    metrics = [(each / "per_request.parquet") for each in (folder, tmp_path / "local")]
    pd.testing.assert_frame_equal(*map(pd.read_parquet, metrics))
