"""Embeddings of items that were made elsewhere: an array, and the item tokens of its rows beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recgen.core.errors import UserError
from recgen.core.io import read_ids


def given_embeddings(path: Path, tokens: Sequence[str], width: int, where: str) -> np.ndarray:
    """Return the embeddings of items, float32 ``[n, D]``, from a file of them.

    Parameters
    ----------
    path
        A ``.npy`` file ``[N, D]`` of numbers; the item tokens of its rows are in ``<name>.ids.txt``, one a line.
    tokens
        The items, n of them.
    width
        D, the width of the run's encoder, whose embeddings these have to be.
    where
        The key that names the file, for messages.

    Raises
    ------
    UserError
        If the file is no such array, or an item has no row or one that is not finite.
    """
    import pandas as pd

    rows, ids = _array(path, width, where), _ids(path.with_suffix(".ids.txt"), where)
    if len(ids) != len(rows):
        raise UserError(
            f"{path.with_suffix('.ids.txt')}",
            found=f"{len(ids)} ids",
            expected=f"{len(rows)}, one a row of {path.name}",
        )
    index = pd.Index(ids)
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise UserError(
            f"{path.with_suffix('.ids.txt')}", found=f"{twice!r} more than once", expected="a row an item"
        )
    places = index.get_indexer(pd.Index(list(tokens), dtype=object))
    if (places < 0).any():
        absent = tokens[int(np.argmax(places < 0))]
        raise UserError(
            f"{path}",
            found=f"no row for {int((places < 0).sum())} items of the data set, {absent!r} for one",
            expected="one for every item that has an image, or of texts for every one that has a text",
        )
    found = np.asarray(rows[places], dtype=np.float32)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        item = tokens[int(np.argmin(finite))]
        raise UserError(f"{path}", found=f"a value that is not finite for item {item!r}", expected="numbers")
    return found


def _array(path: Path, width: int, where: str) -> Any:
    """Return the array, mapped into memory."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where} {path}", found=str(error), expected="a NumPy array [items, D]") from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or rows.shape[1] != width:
        raise UserError(
            f"{where} {path}",
            found=f"{rows.dtype} {list(rows.shape)}",
            expected=f"numbers [items, {width}], embeddings by the run's encoder",
        )
    return rows


def _ids(path: Path, where: str) -> list[str]:
    try:
        return read_ids(path)
    except (OSError, UnicodeDecodeError) as error:
        found = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else "no such file"
        raise UserError(f"{where} {path}", found=found, expected="the items' ids, one a line") from error
