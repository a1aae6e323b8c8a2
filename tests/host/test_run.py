"""A run from end to end on a tiny data set: what it writes, that it does nothing twice, and that a kill costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from recgen import session


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    session.run(str(write_config(folder)), str(folder / "run"), ())
    return folder / "run"


def test_every_request_has_its_creative(finished):
    requests = pd.read_parquet(finished / "dataset/requests.parquet")
    manifest = pd.read_parquet(finished / "creatives/manifest.parquet")
    assert manifest[["user_id", "item_id", "seed"]].equals(requests[["user_id", "item_id", "seed"]])
