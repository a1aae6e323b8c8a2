"""The log's file: what is written is read, types and all, and what is none is refused with file, row and column."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recgen.core.errors import UserError
from recgen.data.click_log import TYPES, read_log, write_log


def _log(**changes):
    rows = {
        "user_id": ["u1", "u1"], "item_id": ["i1", "i2"], "page_id": ["p", "p"], "round": [0, 0], "position": [1, 2],
        "arm": ["original", "original"], "picture": ["", ""],
        "propensity": [0.5, 0.5], "click": [True, False], "device": ["x", "y"],
    }  # fmt: skip
    return pd.DataFrame({**rows, **changes})


def test_it_comes_back_with_its_own_types_and_further_columns(tmp_path):
    write_log(tmp_path / "log.parquet", _log())
    schema = pq.read_schema(tmp_path / "log.parquet")
    assert schema.names == [*TYPES, "device"]
    kinds = {name: str(schema.field(name).type) for name in TYPES}
    assert kinds["round"] == "int32" and kinds["position"] == "int16" and kinds["propensity"] == "double"
    assert kinds["click"] == "bool" and "string" in kinds["user_id"]
    pd.testing.assert_frame_equal(
        read_log(tmp_path / "log.parquet"), _log().astype(TYPES)[[*TYPES, "device"]]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"propensity": [0.5, 0.0]}, "row 1, propensity"),
        ({"propensity": [1.5, 0.5]}, "row 0, propensity"),
        ({"position": [1, 0]}, "row 1, position"),
        ({"position": [1, 1]}, "position 1 of page 'p' a second time"),
        ({"arm": ["original", None]}, "row 1, arm"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        write_log(tmp_path / "log.parquet", _log(**changes))
    assert not (tmp_path / "log.parquet").exists()


def test_a_table_without_propensities_and_a_file_that_is_none_are_refused(tmp_path):
    _log().drop(columns="propensity").to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(UserError, match="no column 'propensity'"):
        read_log(tmp_path / "bare.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_log(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="no Parquet"):
        read_log(tmp_path / "text.parquet")
