"""Reads RecBole's atomic files (`name:type` headers) strictly, so that a mistake in one gets a message and not a traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recgen.core.errors import UserError, nearest

_TYPES = ("token", "token_seq", "float", "float_seq")


def columns(path: Path, separator: str) -> list[str]:
    """Return the field names of an atomic file, without their types.

    Raises
    ------
    UserError
        When the file is absent or its header is not made of ``name:type``.
    """
    return list(_header(path, separator))


def _header(path: Path, separator: str) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline().rstrip("\r\n")
    except FileNotFoundError as error:
        raise UserError(str(path), found="no such file", expected="a RecBole atomic file") from error
    except UnicodeDecodeError as error:
        raise UserError(
            str(path), found="bytes that are not UTF-8", expected="a RecBole atomic file in UTF-8"
        ) from error
    if line.startswith("\ufeff"):
        raise UserError(
            f"{path}, row 1",
            found="a byte order mark before the first column",
            expected="UTF-8 without one: RecBole takes it for part of the column's name",
            todo="Save the file as UTF-8 without BOM.",
        )
    fields = {}
    for column in line.split(separator):
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise UserError(
                f"{path}, row 1",
                found=repr(column[:80]),
                expected=f"name:type with a type of {', '.join(_TYPES)}",
            )
        fields[name] = kind
    return fields


def read_atomic(path: Path, separator: str, needed: Sequence[str], ids: Sequence[str] = ()) -> pd.DataFrame:
    """Read an atomic file with plain field names as columns.

    Parameters
    ----------
    path
        The file.
    separator
        What separates columns.
    needed
        Fields that must be there.
    ids
        Of these, the ones that hold users' or items' ids.

    Returns
    -------
    pandas.DataFrame
        ``float`` fields as float64, all others as strings; what is empty is the empty string or NaN.

    Raises
    ------
    UserError
        For a missing field, a row with too many columns, a float field that holds something else, or an id that holds a line
        break, the separator or a byte order mark, as one does behind a quote that is never closed; the row is named.
    """
    fields = _header(path, separator)
    for name in needed:
        if name not in fields:
            found = f"columns {', '.join(fields)}"
            raise UserError(str(path), found=found, expected=f"a column {name!r}", todo=nearest(name, fields))
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except pd.errors.ParserError as error:
        raise _unparsable(path, str(error)) from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), found=str(error), expected="one value per column in every row") from error
    table.columns = pd.Index(list(fields))
    for name, kind in fields.items():
        if kind == "float":
            table[name] = _numbers(table[name], path)
    for name in ids:
        _check_ids(table[name], path, separator)
    return table


def _unparsable(path: Path, problem: str) -> UserError:
    """Return the error for what pandas cannot take apart; it counts the rows behind an open quote from 0."""
    opened = re.search(r"EOF inside string starting at row (\d+)", problem)
    if opened is None:
        return UserError(str(path), found=problem, expected="one value per column in every row")
    return UserError(
        f"{path}, row {int(opened[1]) + 1}",
        found="a value that begins with a quote that is never closed",
        expected="quotes in pairs around a value, or none at its beginning",
        todo="Take the quote away.",
    )


def _check_ids(column: pd.Series, path: Path, separator: str) -> None:
    wrong = column.str.contains(f"[\ufeff\n\r\0{re.escape(separator)}]", regex=True)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{path}, row {row + 2}, column {column.name}",
            found=repr(column.iloc[row][:80]),
            expected="an id without line breaks, separators and byte order marks",
            todo="A quote at an id's beginning takes in what follows, up to the next quote: take it away.",
        )


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(column.replace("", None), errors="coerce").astype("float64")
    wrong = numbers.isna() & (column != "")
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{path}, row {row + 2}, column {column.name}",
            found=repr(column.iloc[row][:80]),
            expected="a number",
        )
    return numbers
