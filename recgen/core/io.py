"""Files: what identifies them, and writes that a kill at any moment leaves whole."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from recgen.core.columns import ROWS

TEMPORARY = ".tmp-"  # begins the names of files that are being written
_WHOLE = 16 * 2**20  # files up to this many bytes are identified by their contents


def digest(value: Any) -> str:
    """Return 32 hexadecimal digits that identify a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def identity(path: Path, endings: Sequence[str] | None = None) -> str:
    """Return what identifies a file or a folder: contents up to 16 MiB a file, else size and time of change.

    A folder of more than 64 files is identified by their names, sizes and times alone, so that a million images
    are not read to find out whether one of them changed. With `endings`, other files of a folder do not count.
    """
    if path.is_dir():
        found = sorted(entry for entry in path.rglob("*") if entry.is_file())
        if endings is not None:
            found = [entry for entry in found if entry.suffix.lower() in endings]
        return digest(
            [[str(entry.relative_to(path)), _file_identity(entry, len(found) <= 64)] for entry in found]
        )
    return _file_identity(path, True) if path.exists() else "absent"


def _file_identity(path: Path, contents: bool) -> str:
    status = path.stat()
    if contents and status.st_size <= _WHOLE:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return f"{status.st_size}@{status.st_mtime_ns}"


def content_digest(path: Path) -> str:
    """Return 32 hexadecimal digits that identify a file's contents, whatever its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_facts(file: Path) -> dict[str, Any]:
    """Return what is recorded of a file that is finished: size in bytes, time of change, digest of its contents."""
    status = file.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "blake2b": content_digest(file)}


def is_as_written(path: Path, facts: dict[str, Any], thorough: bool = False) -> bool:
    """Return whether a file is as `file_facts` found it; contents are compared where its time is another, or with `thorough`."""
    if not path.is_file() or path.stat().st_size != facts["size"]:
        return False
    if not thorough and path.stat().st_mtime_ns == facts["mtime_ns"]:
        return True
    return content_digest(path) == facts["blake2b"]


def write_bytes(path: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file so that a reader, or a kill at any moment, finds either the old contents or all of the new ones.

    `durable=False` leaves out the wait for the disk (some 4 ms a file), for files that `sync` then waits for together. Two
    processes, on two machines even, may write the same file at once: one of them is last.
    """
    with writing(path, durable) as file:
        file.write(data)


@contextmanager
def writing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file piece by piece, which takes its place when the block ends; else as `write_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def flush() -> None:
    """Wait until everything written so far is on the disk."""
    os.sync()


def sync(files: Iterable[Path]) -> None:
    """Wait until these files and their names are on the disk, and for nothing that other processes write."""
    paths = list(files)
    for path in paths:
        _sync(path)
    for folder in dict.fromkeys(path.parent for path in paths):
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, the same bytes for the same value."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_parquet(path: Path, frame: Any) -> None:
    """Write a pandas frame, without its index, atomically."""
    with writing(path) as file:
        frame.to_parquet(file, index=False)


def write_large(path: Path, frame: Any) -> None:
    """Write a frame of numbers, truth values and categories, which become strings, piece by piece; else as `write_parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = {
        name: pa.array(frame[name].cat.categories, pa.string())
        for name in frame
        if frame[name].dtype == "category"
    }

    def column(name: str, rows: slice) -> Any:
        if name not in words:
            return pa.array(frame[name].to_numpy()[rows], from_pandas=True)
        return pa.DictionaryArray.from_arrays(frame[name].cat.codes.to_numpy()[rows], words[name]).cast(
            pa.string()
        )

    starts = range(0, max(len(frame), 1), ROWS)
    pieces = (
        pa.table({name: column(name, slice(start, start + ROWS)) for name in frame}) for start in starts
    )
    first = next(pieces)
    with writing(path) as file, pq.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        for piece in pieces:
            writer.write_table(piece)


FORMER_COLUMNS = {"picture": "image"}
"""Columns that earlier versions wrote under another name; tables of their runs are still read."""


def read_table(path: Path) -> Any:
    """Return a run's Parquet table as a pandas frame, with today's column names."""
    import pandas as pd

    return pd.read_parquet(path).rename(columns=FORMER_COLUMNS)


def read_coded(path: Path, coded: Sequence[str]) -> Any:
    """Return a Parquet table as a pandas frame in which columns of strings are categories: 4 bytes a row, not 8."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, read_dictionary=list(coded))
    return table.to_pandas(split_blocks=True, self_destruct=True)


def write_features(path: Path, features: Any, ids: Sequence[str] | None = None) -> None:
    """Write float32 `features` ``[n, D]`` as safetensors (key "features") and, where given, their ids beside them."""
    import numpy as np
    from safetensors.numpy import save

    if ids is not None:
        write_bytes(path.with_suffix(".ids.txt"), "".join(f"{token}\n" for token in ids).encode())
    write_bytes(path, save({"features": np.ascontiguousarray(features, dtype=np.float32)}))


def read_features(path: Path) -> Any:
    """Return the float32 array ``[n, D]`` that `write_features` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)["features"]


def read_ids(path: Path) -> list[str]:
    """Return item tokens of a UTF-8 file, one a line; the last line may end without a line feed, as people write such files.

    Only line feeds end a line: a token may hold what Unicode calls a line separator.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def map_features(path: Path) -> Any:
    """Return what `read_features` returns, mapped into memory: processes share it, and what one writes into it is its own."""
    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["features"]
    if 0 in entry["shape"]:
        return np.zeros(entry["shape"], dtype=np.float32)
    start, shape = 8 + length + entry["data_offsets"][0], tuple(entry["shape"])
    return np.memmap(path, dtype="<f4", mode="c", offset=start, shape=shape).view(np.ndarray)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's object, or None where it is absent, cut short or no object: what keeps the books is never fatal."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
