"""Atomic files with what RecBole would read as something else: refused, or counted, and never silent."""

from __future__ import annotations

import logging

import pytest

from recgen.core.errors import UserError
from recgen.data.atomic import read_atomic

HEADER = "item_id:token\ttitle:token_seq\tyear:token\n"


def read(tmp_path, rows, ending="\n"):
    path = tmp_path / "mine.item"
    path.write_bytes((HEADER + "\n".join(rows) + "\n").replace("\n", ending).encode())
    return read_atomic(path, "\t", ["item_id"], ids=["item_id"])


@pytest.mark.parametrize("word", ["nan", "NA", "null", "None", "NULL", "[PAD]"])
def test_an_id_that_recbole_reads_as_missing(tmp_path, word):
    with pytest.raises(UserError, match=r"row 3, column item_id: found the id '.*reads as missing"):
        read(tmp_path, ["i1\ta\t1", f"{word}\tb\t2"])


def test_an_id_may_hold_such_a_word(tmp_path):
    assert list(read(tmp_path, ["nana\ta\t1", "NA1\tnull\tnan"])["item_id"]) == ["nana", "NA1"]


def test_a_carriage_return_in_a_title(tmp_path):
    with pytest.raises(UserError, match=r"mine.item, row 3: found a carriage return inside the line"):
        read(tmp_path, ["i1\ta\t1", "i2\tone\rtwo\t2"])


def test_line_ends_of_windows_are_fine(tmp_path):
    assert list(read(tmp_path, ["i1\ta\t1", "i2\tb\t2"], ending="\r\n")["title"]) == ["a", "b"]


def test_rows_with_fewer_columns_are_counted(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "recgen"):
        table = read(tmp_path, ["i1\ta\t1", "i2", "i3\tc", "i4\td\t"])
    assert len(table) == 4
    assert "2 rows have fewer columns than the header (first: row 3)" in caplog.text
