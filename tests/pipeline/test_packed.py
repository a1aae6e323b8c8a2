"""A run whose images are packed is the run whose images are files: the same digests and metrics, kills and damage included."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dying import die_at_write
from PIL import Image

import recgen
from recgen import api
from recgen.core.errors import UserError
from recgen.core.io import read_features
from recgen.data.shards import read_file, read_range
from recgen.export import export
from recgen.pipeline import parts, session
from recgen.pipeline.parts import Part

SETTINGS = {
    "generators": ["toy", "other"],
    "controls": ["constant", "swapped"],
    "shard_size": 4,
    "downstream": {"seeds": 1, "items": 2, "rerank": {"users": 2, "negatives": 10}},
}


@pytest.fixture(scope="module")
def single(tmp_path_factory, write_config) -> Path:
    """A run with a file an image."""
    folder = tmp_path_factory.mktemp("single")
    return api.run(str(write_config(folder, **SETTINGS)), str(folder / "run")).folder


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_config) -> Path:
    return write_config(tmp_path_factory.mktemp("config"), **SETTINGS, pack=True)


@pytest.fixture(scope="module")
def packed(tmp_path_factory, config) -> Path:
    """The same run with its images packed."""
    folder = tmp_path_factory.mktemp("packed") / "run"
    return api.run(str(config), str(folder)).folder


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return shutil.copytree(packed, tmp_path / "run")


def results(folder: Path) -> tuple[object, ...]:
    """Everything that a run says, but for how long it took and where its images lie."""
    tables = [folder / "creatives/manifest.parquet", *sorted(folder.glob("creatives/shards/*/*.parquet"))]
    rows = [
        pd.read_parquet(path).drop(columns=["path", "seconds", "offset", "length"], errors="ignore")
        for path in tables
    ]
    embeddings = read_features(folder / "creatives/embeddings.safetensors")
    metrics = json.loads((folder / "metrics.json").read_text())
    return [table.to_csv() for table in rows], embeddings.tobytes(), metrics, {path.name for path in tables}


def test_digests_and_metrics_are_those_of_single_files(single, packed):
    assert results(packed) == results(single)
    assert (packed / "gate/toy.parquet").is_file()
    for name in ("toy", "other"):
        gates = [
            pd.read_parquet(folder / f"gate/{name}.parquet").drop(columns="path")
            for folder in (single, packed)
        ]
        pd.testing.assert_frame_equal(*gates)


def test_there_is_an_archive_a_chunk_and_no_other_image(single, packed):
    files = sorted(
        str(path.relative_to(packed)) for path in packed.glob("creatives/images/**/*") if path.is_file()
    )
    chunks = [f"{number:07d}.tar" for number in (0, 4, 8)]
    drawn = ("control.constant", "other", "toy")
    assert [name for name in files if "swapped" not in name] == [
        f"creatives/images/{name}/{chunk}" for name in drawn for chunk in chunks
    ]
    assert len(list(single.glob("creatives/images/**/*.png"))) > len(files)


def test_each_sample_is_an_image_and_what_is_known_of_it(packed):
    rows = pd.read_parquet(packed / "creatives/manifest.parquet").set_index("path")
    with tarfile.open(packed / "creatives/images/toy/0000004.tar") as archive:
        images = [name for name in archive.getnames() if name.endswith(".png")]
        assert len(images) == 4
        for name in images:
            row = rows.loc[f"creatives/images/toy/0000004.tar/{name}"]
            told = json.load(archive.extractfile(name.replace(".png", ".json")))
            assert (
                hashlib.sha256(archive.extractfile(name).read()).hexdigest()
                == row["sha256"]
                == told["sha256"]
            )
            assert (told["user_id"], told["item_id"]) == (row["user_id"], row["item_id"])
            assert told["recipe"] == json.loads(row["recipe"])
            assert "seconds" not in told, "a chunk that is drawn again has the same bytes"


def test_the_index_says_where_each_image_lies(packed):
    index = pd.read_parquet(packed / "creatives/index.parquet")
    rows = pd.read_parquet(packed / "creatives/manifest.parquet")
    assert index["path"].tolist() == rows["path"].tolist()
    for place, digest in zip(index.itertuples(), rows["sha256"], strict=True):
        data = read_range(packed / place.shard, place.offset, place.length)
        assert hashlib.sha256(data).hexdigest() == digest
        assert data == read_file(packed / place.path)


def test_a_run_opened_from_python_shows_and_gives_them(packed, single):
    run, other = recgen.open(packed), recgen.open(single)
    for row, same in zip(
        run.creatives.to_dict("records")[::5], other.creatives.to_dict("records")[::5], strict=True
    ):
        image = np.asarray(Image.open(same["path"]).convert("RGB"))
        assert np.array_equal(run.image(row["path"]), image)
        assert np.array_equal(run.draw(row["user_id"], row["item_id"], row["generator"]).image, image)


def test_what_is_exported_is_a_folder_that_is_judged(packed, single, tmp_path):
    for folder in (packed, single):
        export(str(folder), str(tmp_path / folder.parent.name), "mine", "toy", images=True, everything=True)
    one, other = (tmp_path / folder.parent.name / "mine/creatives" for folder in (packed, single))
    assert {path.name: path.read_bytes() for path in one.glob("*.png")} == {
        path.name: path.read_bytes() for path in other.glob("*.png")
    }


def test_a_packed_run_is_a_folder_of_images_made_elsewhere(packed, write_config, tmp_path):
    table = pd.read_parquet(packed / "creatives/manifest.parquet")
    table[table["generator"] == "toy"].to_parquet(packed / "toy.parquet")
    block = {"generator": "folder", "path": str(packed), "manifest": "toy.parquet"}
    config = write_config(tmp_path, generators=["mine"], mine=block)
    run = api.run(str(config), str(tmp_path / "run"), until="generate")
    shown = run.creatives.set_index("user_id")
    for row in table[table["generator"] == "toy"].itertuples():
        assert np.array_equal(run.image(shown.loc[row.user_id, "path"]), recgen.open(packed).image(row.path))


def test_a_service_shows_them(packed, tmp_path):
    app = pytest.importorskip("recgen.serving.app", reason="recgen[serve] is not installed")
    from recgen.core.provenance import recipe_hash
    from recgen.serving.publish import publish

    folder = shutil.copytree(packed, tmp_path / "run")
    publish(folder, "toy", everything=True)
    service = app.Service(app.Options(folder, app.Keys([])))
    rows = pd.read_parquet(folder / "creatives/manifest.parquet")
    for row in rows[rows["generator"] == "toy"].itertuples():
        found = asyncio.run(service.file(service.store.image(recipe_hash(row.recipe)), {"x-test": "1"}))
        assert hashlib.sha256(found.body).hexdigest() == row.sha256
        assert found.media_type == "image/png" and found.headers["x-test"] == "1"
    service.close()


def test_a_damaged_archive_is_named_and_drawn_again_alone(copy, config):
    shard = copy / "creatives/images/toy/0000004.tar"
    whole = {path: path.read_bytes() for path in shard.parent.glob("*.tar")}
    others = {path: path.stat().st_mtime_ns for path in whole if path != shard}
    data = bytearray(whole[shard])
    data[700] ^= 1  # in the first image
    shard.write_bytes(bytes(data))
    with pytest.raises(
        UserError, match=r"creatives/images/toy/0000004.tar, creatives/images/toy/0000004.tar/\w+.png"
    ):
        api.verify(copy)
    api.run(str(config), str(copy))
    assert {path: path.read_bytes() for path in whole} == whole
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert "as it was written" in api.verify(copy)


def test_an_index_that_points_elsewhere_is_noticed(copy):
    index = pd.read_parquet(copy / "creatives/index.parquet")
    index["offset"] = index["offset"].to_numpy()[::-1]
    index.to_parquet(copy / "creatives/index.parquet")
    with pytest.raises(UserError, match=r"creatives/index.parquet, creatives/images/toy/0000000.tar/\w+.png"):
        api.verify(copy)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(2, 3, 7), (1, 5, 4)])
def test_killed_at_any_write_it_ends_the_same(single, config, in_child, tmp_path, kills):
    """Each number is the write of drawing, counted from the start of one attempt, at which that attempt is killed."""
    folder = tmp_path / "run"
    api.run(str(config), str(folder), until="generator.fit")
    for kill in kills:
        before = tables(folder)
        assert in_child(_die_at_write, config, folder, kill) == -signal.SIGKILL
        assert before.items() <= tables(folder).items(), "what is drawn stays"
    before = tables(folder)
    assert in_child(session.run, str(config), str(folder)) == 0
    assert before.items() <= tables(folder).items(), "nothing is drawn twice"
    assert results(folder) == results(single)
    assert not list(folder.rglob(".tmp-*"))


def tables(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("creatives/shards/*/[0-9]*.parquet")}


def _die_at_write(config: Path, folder: Path, last: int) -> None:
    """Run, and die at the `last` archive, embeddings or table of a chunk; see `die_at_write`."""
    die_at_write(last, lambda target: "creatives" in target.parts)
    session.run(str(config), str(folder))


def test_parts_make_the_same_archives(packed, config, tmp_path):
    folder = tmp_path / "run"
    api.run(str(config), str(folder), until="generator.fit")
    for _ in range(2):  # what changes hands is drawn after what it is taken from
        drawing = [_start(config, folder, f"{part}/2") for part in (1, 2)]
        for process in drawing:
            process.join()
        try:
            parts.collect(str(config), str(folder))
        except UserError as error:
            assert "swapped" in str(error)
    for name in ("creatives/images", "creatives/index.parquet"):
        for path in _files(packed / name):
            assert (folder / path.relative_to(packed)).read_bytes() == path.read_bytes(), path


def _start(config: Path, folder: Path, part: str) -> multiprocessing.process.BaseProcess:
    def body() -> None:
        with open(os.devnull, "w") as sys.stderr:
            parts.generate(str(config), Part.parse(part), str(folder))

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    return process


def _files(place: Path) -> Iterator[Path]:
    yield from [place] if place.is_file() else (path for path in place.rglob("*") if path.is_file())


def test_a_run_that_is_packed_from_now_on_keeps_what_is_drawn(single, config, tmp_path):
    """How images are kept is no reason to draw them again; what is missing is packed, and both are read."""
    folder = shutil.copytree(single, tmp_path / "run")
    rows = pd.read_parquet(folder / "creatives/shards/toy/0000004.parquet")
    gone = folder / rows["path"].iloc[0]
    gone.unlink()
    api.run(str(config), str(folder), until="generate")
    assert results(folder)[0] == results(single)[0]
    assert (folder / "creatives/images/toy/0000004.tar").is_file()
    assert not (folder / "creatives/images/toy/0000000.tar").exists()
    assert "as it was written" in api.verify(folder)
