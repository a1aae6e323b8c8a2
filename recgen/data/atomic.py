"""Reads RecBole's atomic files (`name:type` headers) strictly, so that a mistake in one gets a message and not a traceback."""

from __future__ import annotations

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
    fields = {}
    for column in line.removeprefix("\ufeff").split(separator):
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise UserError(
                f"{path}, row 1",
                found=repr(column[:80]),
                expected=f"name:type with a type of {', '.join(_TYPES)}",
            )
        fields[name] = kind
    return fields


def read_atomic(path: Path, separator: str, needed: list[str]) -> pd.DataFrame:
    """Read an atomic file with plain field names as columns.

    Parameters
    ----------
    path
        The file.
    separator
        What separates columns.
    needed
        Fields that must be there.

    Returns
    -------
    pandas.DataFrame
        ``float`` fields as float64, all others as strings; what is empty is the empty string or NaN.

    Raises
    ------
    UserError
        For a missing field, a row with too many columns or a float field that holds something else.
    """
    fields = _header(path, separator)
    for name in needed:
        if name not in fields:
            found = f"columns {', '.join(fields)}"
            raise UserError(str(path), found=found, expected=f"a column {name!r}", todo=nearest(name, fields))
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(str(path), found=str(error), expected="one value per column in every row") from error
    table.columns = pd.Index(list(fields))
    for name, kind in fields.items():
        if kind == "float":
            table[name] = _numbers(table[name], path)
    return table


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
