"""Embeddings made elsewhere are taken over row by item, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import read_features
from recgen.features.given import given_embeddings
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext

ROWS = np.arange(12, dtype=np.float64).reshape(4, 3)


def written(folder: Path, rows: np.ndarray = ROWS, ids: str = "a\nb\nc\nd\n") -> Path:
    np.save(folder / "given.npy", rows)
    (folder / "given.ids.txt").write_text(ids)
    return folder / "given.npy"


def test_rows_are_found_by_item_whatever_their_order(tmp_path):
    found = given_embeddings(written(tmp_path), ["d", "a"], 3, "key")
    assert found.dtype == np.float32 and found.tolist() == [[9, 10, 11], [0, 1, 2]]


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (ROWS[:, :2], "a\nb\nc\nd\n", r"float64 \[4, 2\]; expected numbers \[items, 3\]"),
        (ROWS.astype(str), "a\nb\nc\nd\n", r"expected numbers"),
        (ROWS[:3], "a\nb\nc\nd\n", r"found 4 ids; expected 3"),
        (ROWS, "a\nb\nc\nc\n", r"'c' more than once"),
        (ROWS, "a\nb\nc\ne\n", r"no row for 1 items of the data set, 'd' for one"),
        (np.where(ROWS == 10, np.nan, ROWS), "a\nb\nc\nd\n", r"not finite for item 'd'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, rows, ids, message):
    with pytest.raises(UserError, match=message):
        given_embeddings(written(tmp_path, rows, ids), ["a", "d"], 3, "key")


def test_ids_that_are_no_text_are_named(tmp_path):
    path = written(tmp_path)
    path.with_suffix(".ids.txt").write_bytes(b"a\nb\nc\n\xff\n")
    with pytest.raises(UserError, match="key .*given.ids.txt: found no UTF-8 text"):
        given_embeddings(path, ["a"], 3, "key")


def test_absent_files_are_named(tmp_path):
    with pytest.raises(UserError, match="recgen.given_features.image .*given.npy"):
        given_embeddings(tmp_path / "given.npy", ["a"], 3, "recgen.given_features.image")
    written(tmp_path)
    (tmp_path / "given.ids.txt").unlink()
    with pytest.raises(UserError, match=r"given.ids.txt: found no such file"):
        given_embeddings(tmp_path / "given.npy", ["a"], 3, "key")


def test_a_run_takes_them_in_place_of_its_own_and_again_when_they_change(tmp_path, write_config):
    ids = [f"i{n}" for n in range(30)][::-1]
    rows = np.random.default_rng(0).normal(size=(30, 16))
    path = written(tmp_path, rows, "".join(f"{token}\n" for token in ids))
    config = load_config(str(write_config(tmp_path, given_features={"image": str(path)})))
    run = RunContext(config, tmp_path / "run")
    assert "features" in pipeline.execute(run, until="features")
    found, features = run.features("image")
    assert np.allclose(features, rows[[ids.index(token) for token in found]]) and len(found) == 30
    texts = read_features(tmp_path / "run/features/text.safetensors")
    assert texts.shape == (30, 16) and not np.allclose(texts, features), "texts are encoded"
    assert pipeline.execute(RunContext(config, tmp_path / "run"), until="features") == []
    written(tmp_path, 2 * rows, "".join(f"{token}\n" for token in ids))
    assert pipeline.execute(RunContext(config, tmp_path / "run"), until="features") == ["features"]
