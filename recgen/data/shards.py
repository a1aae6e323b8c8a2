"""Images packed in shards: tar archives in WebDataset's form, ``<key>.png`` and what is known of it as ``<key>.json`` behind it.

A packed image has a path like any other, that of its archive and its name in it: ``creatives/images/taste/0000000.tar/1f2e.png``.
`read_file`, and with it `recgen.data.images.read_image`, take such paths and those of single files alike.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from recgen.core.io import writing

ENDING = ".tar"


def is_packed(path: Path) -> bool:
    """Return whether a path leads into a shard that is there."""
    return path.parent.suffix == ENDING and path.parent.is_file()


def write_shard(
    shard: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]
) -> dict[str, tuple[int, int]]:
    """Write a shard atomically; equal samples make equal bytes.

    Parameters
    ----------
    shard
        Its path, which ends in `ENDING`.
    samples
        Keys, each once, and for each its files' contents by ending, such as ``{"png": ..., "json": ...}``. They are written as
        they come, so that an iterator need not hold them all.

    Returns
    -------
    Offset and length in bytes of each file's contents in the archive, by its name ``<key>.<ending>``.
    """
    with writing(shard) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for key, files in samples:
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return _members(shard)


def place(path: Path) -> tuple[int, int]:
    """Return offset and length in bytes of a packed file in its shard.

    Raises
    ------
    FileNotFoundError
        Where the shard has no such file, or is none.
    """
    status = path.parent.stat()
    found = _cached_members(path.parent, status.st_size, status.st_mtime_ns).get(path.name)
    if found is None:
        raise FileNotFoundError(f"{path.name} is not in {path.parent}")
    return found


def read_file(path: Path) -> bytes:
    """Return the contents of a packed or single file.

    Raises
    ------
    FileNotFoundError
        Where it is not there.
    """
    return read_range(path.parent, *place(path)) if is_packed(path) else path.read_bytes()


def read_range(file: Path, offset: int, length: int) -> bytes:
    """Return a part of a file; less than `length` bytes where the file ends before."""
    handle = os.open(file, os.O_RDONLY)
    try:
        return os.pread(handle, length, offset)
    finally:
        os.close(handle)


@lru_cache(maxsize=64)
def _cached_members(shard: Path, size: int, time: int) -> dict[str, tuple[int, int]]:
    """Return a shard's members; size and time of change are asked for so that one written anew is read anew."""
    return _members(shard)


def _members(shard: Path) -> dict[str, tuple[int, int]]:
    """Return offset and length of each file of a shard, by its headers alone."""
    try:
        with tarfile.open(shard, "r:") as archive:
            return {member.name: (member.offset_data, member.size) for member in archive if member.isreg()}
    except tarfile.TarError as error:
        raise FileNotFoundError(f"{shard} is no whole tar archive") from error
