"""Atomic files with ids that swallow rows or carry a byte order mark: the row is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from recgen.core.errors import UserError
from recgen.data.atomic import columns, read_atomic

HEADER = "user_id:token\titem_id:token\trating:float\n"


def read(folder: Path, text: str):
    (folder / "x.inter").write_text(text, encoding="utf-8")
    return read_atomic(folder / "x.inter", "\t", ["user_id"], ids=["user_id", "item_id"])


def test_plain_and_quoted_ids_are_read(tmp_path):
    table = read(tmp_path, HEADER + 'a"b\t5"\t1\n"c"\ti2\t2\n')
    assert table["user_id"].tolist() == ['a"b', "c"] and table["item_id"].tolist() == ['5"', "i2"]


@pytest.mark.parametrize(
    ("rows", "where", "what"),
    [
        ('a\ti\t1\n"b\ti\t1\nc\ti\t1\n', "row 3", "never closed"),
        ('a\ti\t1\n"b\ti\t1\nc"\ti\t1\nd\ti\t1\n', "row 3, column user_id", "quote"),
        ("a\ti\t1\nb\t\ufeffi\t1\n", "row 3, column item_id", "ufeff"),
    ],
)
def test_an_id_that_is_none_is_named_with_its_row(tmp_path, rows, where, what):
    with pytest.raises(UserError) as caught:
        read(tmp_path, HEADER + rows)
    assert where in caught.value.where and what in str(caught.value)


def test_a_byte_order_mark_is_named(tmp_path):
    (tmp_path / "x.inter").write_text("\ufeff" + HEADER + "a\ti\t1\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 1: found a byte order mark"):
        columns(tmp_path / "x.inter", "\t")


def test_strings_come_as_categories_and_other_columns_are_left_out_but_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("recgen.data.atomic.ROWS", 2)
    (tmp_path / "x.inter").write_text(HEADER + "a\ti\t1\nb\tj\t2\nb\ti\t\nc\ti\t4\na\tj\t5\n")
    whole = read_atomic(tmp_path / "x.inter", "\t", ["user_id"], ids=["user_id", "item_id"])
    table = read_atomic(
        tmp_path / "x.inter", "\t", [], coded=["user_id"], only=["rating", "user_id", "other"]
    )
    assert list(table) == ["user_id", "rating"] and str(table["user_id"].dtype) == "category"
    assert table["user_id"].tolist() == whole["user_id"].tolist() == ["a", "b", "b", "c", "a"]
    assert table["rating"].equals(whole["rating"])
    (tmp_path / "x.inter").write_text(HEADER + "a\ti\t1\nb\tj\tx\n")
    with pytest.raises(UserError, match="row 3, column rating"):
        read_atomic(tmp_path / "x.inter", "\t", [], only=["user_id"])
