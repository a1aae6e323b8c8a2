"""Files are written whole or not at all, and features are read as they were written."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest

from recgen.core import io


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    io.write_json(path, {"value": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        io.write_json(path, {"value": 2})
    assert json.loads(path.read_text()) == {"value": 1} and os.listdir(tmp_path) == ["metrics.json"]


def test_features_round_trip(tmp_path):
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    io.write_features(tmp_path / "image.safetensors", rows, ["a", "ü"])
    read = io.read_features(tmp_path / "image.safetensors")
    assert read.dtype == np.float32 and (read == rows).all()
    assert (tmp_path / "image.ids.txt").read_text(encoding="utf-8") == "a\nü\n"
    mapped = io.map_features(tmp_path / "image.safetensors")
    assert mapped.dtype == np.float32 and (mapped == rows).all()
    mapped[0, 0] = 9
    assert (io.read_features(tmp_path / "image.safetensors") == rows).all(), "what is written stays here"
    io.write_features(tmp_path / "none.safetensors", np.empty((0, 3)))
    assert io.map_features(tmp_path / "none.safetensors").shape == (0, 3)


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    """Each has a temporary file of its own, so that the slower one finds its file still there."""
    path, original = tmp_path / "a.txt", io.Path.replace

    def replace(self, target):
        monkeypatch.setattr(io.Path, "replace", original)
        io.write_bytes(path, b"second")
        return original(self, target)

    monkeypatch.setattr(io.Path, "replace", replace)
    io.write_bytes(path, b"first")
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["a.txt"]


def test_sync_waits_for_files_and_for_their_folders(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(os, "fsync", lambda handle: waited.append(os.readlink(f"/proc/self/fd/{handle}")))
    for name in ("a", "b"):
        (tmp_path / name).touch()
    io.sync(tmp_path / name for name in ("a", "b"))
    assert waited == [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", []), ("a\nb\n", ["a", "b"]), ("a\nb", ["a", "b"]), ("a\u2028b\nc\x85\n", ["a\u2028b", "c\x85"])],
)
def test_ids_are_read_by_line_feeds_alone_and_the_last_may_be_without_one(tmp_path, text, tokens):
    (tmp_path / "items.ids.txt").write_text(text, encoding="utf-8")
    assert io.read_ids(tmp_path / "items.ids.txt") == tokens


def test_a_large_table_is_written_in_pieces_as_if_it_were_one(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "ROWS", 3)
    words = pd.Categorical(["b", "a", "b", "c", "a", "a", "b"], categories=["c", "a", "b", "never"])
    frame = pd.DataFrame(
        {"word": words, "number": [1.5, np.nan, 2, 3, 4, 5, 6], "like": [True, False] * 3 + [True]}
    )
    for rows in (frame, frame[:0], frame[:3]):
        io.write_large(tmp_path / "a.parquet", rows)
        plain = rows.astype({"word": object})
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), plain)
        coded = io.read_coded(tmp_path / "a.parquet", ["word"])
        assert str(coded["word"].dtype) == "category"
        pd.testing.assert_frame_equal(coded.astype({"word": object}), plain)
