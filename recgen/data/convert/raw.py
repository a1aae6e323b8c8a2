"""Reads raw files row by row, whatever is in them: nothing here holds more than one row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

from recgen.core import progress
from recgen.core.errors import UserError, nearest
from recgen.data.atomic import MISSING
from recgen.data.convert.tally import Tally

LONGEST_ROW = 16 * 2**20  # bytes
LONGEST_ID = 256  # characters
_BATCH = 4_096  # rows of a Parquet file at a time

_PLAIN_ID = re.compile(r"[A-Za-z0-9_./:-]{1,256}")
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)


def need(raw: Path, names: Sequence[str], layout: str) -> list[Path]:
    """Return the paths of files that a layout has.

    Raises
    ------
    UserError
        When one of them is absent.
    """
    for name in names:
        if not (raw / name).is_file():
            here = sorted(path.name for path in raw.iterdir())[:8] if raw.is_dir() else []
            found = f"no {name}; there is {', '.join(here)}" if here else f"no {name}"
            raise UserError(f"--raw {raw}", found=found, expected=layout)
    return [raw / name for name in names]


def lines(path: Path, tally: Tally, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (row number from 1, row without its line end); rows longer than 16 MiB are counted and left out.

    Bytes that are not of the encoding become replacement characters, and the row is counted as changed.
    """
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        for number, row in enumerate(_bounded(file), start=1):
            done += len(row)
            if number % 65_536 == 0:
                progress.show(f"reading {path.name}", done, size)
            if not row.endswith(b"\n") and len(row) >= LONGEST_ROW:
                tally.drop("rows", f"longer than {LONGEST_ROW // 2**20} MiB in {path.name}", f"row {number}")
                continue
            try:
                text = row.decode(encoding)
            except UnicodeDecodeError:
                text = row.decode(encoding, errors="replace")
                tally.change("rows", f"bytes in {path.name} that are not {encoding}", f"row {number}")
            yield number, (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    while row := file.readline(LONGEST_ROW):
        start = row
        while len(row) >= LONGEST_ROW and not row.endswith(b"\n"):
            row = file.readline(LONGEST_ROW)
        yield start


def split(
    path: Path, tally: Tally, separator: str, fields: Sequence[int], what: str, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a file without header or quotes, split at the separator.

    Parameters
    ----------
    path, tally, encoding
        See `lines`.
    separator
        What stands between fields.
    fields
        How many fields a row may have. What follows the last field's start is the last field, separators and all.
    what
        What a row is, for the count of rows with another number of fields.
    """
    most = max(fields)
    for number, row in lines(path, tally, encoding):
        if not row:
            continue
        parts = row.split(separator, most - 1)
        if len(parts) in fields:
            yield number, parts
        else:
            tally.drop(what, f"not {most} fields in {path.name}", f"row {number}: {row[:80]}")


def table(
    path: Path, tally: Tally, needed: Sequence[str], what: str, skip_space: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, fields by name) of a CSV with a header; quoted fields may hold line breaks.

    Raises
    ------
    UserError
        For a missing or doubled column, or a quote that is never closed.
    """
    csv.field_size_limit(LONGEST_ROW)
    reader = csv.reader((row + "\n" for _, row in lines(path, tally)), skipinitialspace=skip_space)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, needed)
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            elif row:
                tally.drop(
                    what,
                    f"not {len(header)} fields in {path.name}",
                    f"row {reader.line_num}: {','.join(row)[:80]}",
                )
    except csv.Error as error:
        raise UserError(
            f"{path}, row {reader.line_num}", found=str(error), expected="a CSV with closed quotes"
        ) from error


def _check_header(path: Path, header: list[str], needed: Sequence[str]) -> None:
    for name in needed:
        if header.count(name) != 1:
            found = (
                f"column {name!r} {header.count(name)} times"
                if name in header
                else f"columns {', '.join(header)[:200]}"
            )
            raise UserError(
                f"{path}, row 1", found=found, expected=f"one column {name!r}", todo=nearest(name, header)
            )


def rows(path: Path, tally: Tally, needed: Sequence[str], what: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV or, where the file is named ``.parquet``, of a Parquet file; see `table`."""
    return _parquet(path, needed) if path.suffix == ".parquet" else table(path, tally, needed, what)


def _parquet(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, fields by name as text), a batch of rows in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names, needed)
            batches = (batch.to_pylist() for batch in file.iter_batches(_BATCH))
            for number, row in enumerate((row for batch in batches for row in batch), start=1):
                yield number, {name: _text(value) for name, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(str(path), found=str(error)[:200], expected="a Parquet file") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)


def unusable(identifier: str) -> str:
    """Return why RecBole could not read an id back as it is, or the empty string."""
    if _PLAIN_ID.fullmatch(identifier):
        return "an id that RecBole reads as missing" if identifier in MISSING else ""
    if not identifier:
        return "no id"
    if len(identifier) > LONGEST_ID:
        return f"an id of more than {LONGEST_ID} characters"
    if _BREAKS.search(identifier):
        return "an id with a tab, a line break or another control character"
    return "an id that RecBole reads as missing" if identifier in MISSING else ""


def web_url(text: str) -> str | None:
    """Return a URL of the web, one without a scheme as http; None for anything else."""
    if text.startswith("//") and len(text) > 2:
        return f"http:{text}"
    return text if text.startswith(("http://", "https://")) else None


def is_number(text: str) -> bool:
    """Return whether a text is a finite number as pandas reads it."""
    return bool(_NUMBER.fullmatch(text))


def tidy(text: str, longest: int) -> str:
    """Return a text on one line, without control characters, cut at `longest` characters."""
    # what is far behind the cut need not be looked at: a row has up to 16 million characters
    return _BREAKS.sub("", " ".join(text[: 4 * longest].split()))[:longest]
