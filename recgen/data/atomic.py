"""Reads RecBole's atomic files (`name:type` headers) strictly, so that a mistake in one gets a message and not a traceback."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.columns import ROWS, numbered, shared
from recgen.core.errors import UserError, nearest

logger = logging.getLogger("recgen")
_TYPES = ("token", "token_seq", "float", "float_seq")
MISSING = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null|[PAD]".split(
        "|"
    )
)
"""Ids that RecBole reads as missing: pandas' words for that, and RecBole's own padding."""


def columns(path: Path, separator: str) -> list[str]:
    """Return the field names of an atomic file, without their types.

    Raises
    ------
    UserError
        When the file is absent or its header is not made of ``name:type``.
    """
    return list(fields(path, separator))


def fields(path: Path, separator: str) -> dict[str, str]:
    """Return the type of each field of an atomic file, by its name; raises as `columns` does."""
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
    found = {}
    for column in line.split(separator):
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise UserError(
                f"{path}, row 1",
                found=repr(column[:80]),
                expected=f"name:type with a type of {', '.join(_TYPES)}",
            )
        found[name] = kind
    return found


def read_atomic(
    path: Path,
    separator: str,
    needed: Sequence[str],
    ids: Sequence[str] = (),
    coded: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> pd.DataFrame:
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
    coded
        Fields of strings that come as pandas' categories: 4 bytes a row, not 8.
    only
        The fields that are kept, of those that there are; None keeps all. Numbers of the others are checked too.

    Returns
    -------
    pandas.DataFrame
        ``float`` fields as float64, all others as strings; what is empty is the empty string or NaN.

    Raises
    ------
    UserError
        For a missing field, a row with too many columns, a float field that holds something else, a carriage return that ends no
        line, or an id that RecBole reads as missing or that holds a line break, the separator or a byte order mark, as one does
        behind a quote that is never closed; the row is named.

    Notes
    -----
    Rows with fewer columns than the header are read, as RecBole reads them, and counted in a warning.
    """
    kinds = fields(path, separator)
    _check_line_ends(path)
    for name in needed:
        if name not in kinds:
            found = f"columns {', '.join(kinds)}"
            raise UserError(str(path), found=found, expected=f"a column {name!r}", todo=nearest(name, kinds))
    kept = [name for name in kinds if only is None or name in only]
    pieces: dict[str, list[Any]] = {name: [] for name in kept}
    words: dict[str, dict[str, Any]] = {name: {} for name in kept}
    read = 0
    _check_widths(path, separator, len(kinds))
    try:
        for table in pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8", chunksize=ROWS
        ):
            table.columns = pd.Index(list(kinds))
            for name, kind in kinds.items():
                column = _numbers(table[name], path, read).to_numpy() if kind == "float" else table[name]
                if kind != "float" and name in pieces:
                    column = (numbered if name in coded else shared)(column, words[name])
                if name in pieces:
                    pieces[name].append(column)
            read += len(table)
    except pd.errors.ParserError as error:
        raise _unparsable(path, str(error)) from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), found=str(error), expected="one value per column in every row") from error
    joined = {name: np.concatenate(pieces.pop(name)) for name in kept if pieces[name]}
    for name in set(coded) & joined.keys():
        joined[name] = pd.Categorical.from_codes(joined[name], pd.Index(list(words[name]), dtype=object))
    whole = pd.DataFrame(joined, columns=kept, copy=False)
    for name in ids:
        _check_ids(whole[name], list(words[name]), path, separator)
    return whole


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


def _check_line_ends(path: Path) -> None:
    """Raise `UserError` for a carriage return inside a line, at which parsers would begin another row."""
    line = 1
    with path.open("rb") as file:
        while block := file.read(2**22):
            if block.endswith(b"\r"):
                block += file.read(1)
            lone = re.search(rb"\r(?!\n)", block)
            if lone is not None:
                row = line + block[: lone.start()].count(b"\n")
                raise UserError(
                    f"{path}, row {row}",
                    found="a carriage return inside the line",
                    expected=r"lines that end in \n or \r\n, and no others",
                    todo="Replace the character, as by a space.",
                )
            line += block.count(b"\n")


def _check_widths(path: Path, separator: str, columns: int) -> None:
    """Refuse rows with more columns than the header, and warn of rows with fewer.

    Pandas' parser lets the first pass where a piece begins. In rows with quotes separators say nothing: they are left out.
    """
    sign, wanted = separator.encode(), columns - 1
    with path.open("rb") as file:
        other = [
            (number, line.count(sign) + 1)
            for number, line in enumerate(file, 1)
            if line.count(sign) != wanted and b'"' not in line and line.strip(b"\r\n")
        ]
    short = [number for number, found in other if found < columns]
    for number, found in other:
        if found > columns:
            raise UserError(
                f"{path}, row {number}", found=f"{found} columns", expected=f"{columns}, as in the header"
            )
    if short:
        logger.warning(
            "%s: %d rows have fewer columns than the header (first: row %d); what is missing counts as empty",
            path,
            len(short),
            short[0],
        )


def _check_ids(column: pd.Series, words: Sequence[str], path: Path, separator: str) -> None:
    """Look at each different id, which are all in `words`; the first row of a wrong one is named."""
    forbidden = re.compile(f"[\ufeff\n\r\0{re.escape(separator)}]")
    wrong = {word for word in words if isinstance(word, str) and forbidden.search(word)}
    if wrong:
        row = int(column.isin(wrong).to_numpy().argmax())
        raise UserError(
            f"{path}, row {row + 2}, column {column.name}",
            found=repr(column.iloc[row][:80]),
            expected="an id without line breaks, separators and byte order marks",
            todo="A quote at an id's beginning takes in what follows, up to the next quote: take it away.",
        )
    missing = MISSING.intersection(words)
    if missing:
        row = int(column.isin(missing).to_numpy().argmax())
        raise UserError(
            f"{path}, row {row + 2}, column {column.name}",
            found=f"the id {column.iloc[row]!r}, which RecBole reads as missing",
            expected="another id",
            todo="Rename it, as to id_" + str(column.iloc[row]).strip("<>[]#") + ", wherever it stands.",
        )


def _numbers(column: pd.Series, path: Path, read: int) -> pd.Series:
    """Return a column as numbers, of a piece of the file before which so many rows were read."""
    numbers = pd.to_numeric(column.replace("", None), errors="coerce").astype("float64")
    wrong = numbers.isna() & (column != "")
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{path}, row {read + row + 2}, column {column.name}",
            found=repr(column.iloc[row][:80]),
            expected="a number",
        )
    return numbers
