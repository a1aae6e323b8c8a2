"""Files are written whole or not at all, and features are read as they were written."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
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
