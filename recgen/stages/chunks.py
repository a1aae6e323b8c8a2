"""Creatives in chunks: the unit that is drawn at once, that a kill can cost, and that parts and workers share among them.

A task's requests are cut into chunks of `recgen.shard_size`, the same ones every time. A chunk's images, embeddings and table of
rows are written in this order, so that one with a table is finished and is not drawn again, whichever process wrote it. With
`recgen.pack` its images are one archive (`recgen.data.shards`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_features, write_parquet
from recgen.core.machine import Held, wait_lock
from recgen.core.progress import show
from recgen.data.shards import ENDING, read_file, read_range
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import PREFIX, SWAPPED

MANIFEST = "creatives/manifest.parquet"
"""The run's creatives, a row each; the same bytes from every run of one configuration on one machine."""
SECONDS = "creatives/seconds.parquet"
"""How long each of their images took to draw, which is not the same twice: columns path and seconds."""
INDEX = "creatives/index.parquet"
"""Where the packed ones among their images lie: columns path, shard (the archive), offset and length (in bytes)."""
_KINDS = {
    SWAPPED: "recgen.stages.controls:SwappedChunks",
    PREFIX: "recgen.stages.controls:ControlChunks",
    "": "recgen.stages.generate:GeneratorChunks",
}
"""Whose chunks a name's are, by what it begins with."""


class Chunks(ABC):
    """The chunks of one generator or control.

    Parameters
    ----------
    run
        The run.
    name
        The generator's or control's name in it.
    """

    def __init__(self, run: RunContext, name: str) -> None:
        self.run, self.name = run, name

    @cached_property
    def asked(self) -> Sequence[Any]:
        """What is drawn, in order: the run's requests, or what takes their place."""
        return self.run.requests

    @abstractmethod
    def make(self, block: Sequence[Any], shard: str | None) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw and write the images of some of `asked`; return their rows of the manifest and raw embeddings, float32.

        `shard` names the archive below the run's folder that they are packed in; None for a file each.
        """

    def left_to_draw(self) -> list[int]:
        """Return the numbers of the chunks that are not finished and for which something has to be drawn."""
        return [number for number in range(len(self)) if self.finished(number) is None]

    def __len__(self) -> int:
        return -(-len(self.asked) // self.run.settings.shard_size)

    def block(self, number: int) -> Sequence[Any]:
        """Return what a chunk is to hold."""
        size = self.run.settings.shard_size
        return self.asked[number * size : (number + 1) * size]

    def table(self, number: int) -> Path:
        """Return where a chunk's table is; its name is the place of the first request."""
        first = number * self.run.settings.shard_size
        return self.run.folder / f"creatives/shards/{self.name}/{first:07d}.parquet"

    def finished(self, number: int) -> pd.DataFrame | None:
        """Return the columns ``path`` and ``sha256`` of a finished chunk; None where it is not there or an image is damaged."""
        table = self.table(number)
        if not table.exists() or not table.with_suffix(".safetensors").exists():
            return None
        rows = pd.read_parquet(table, columns=["path", "sha256"])
        return None if damaged_images(self.run.folder, rows) else rows

    def draw(self, number: int) -> pd.DataFrame:
        """Draw and write one chunk, its table last; return its rows of the manifest."""
        table = self.table(number)
        packed = f"{self._images(table)}/{table.stem}{ENDING}" if self.run.settings.pack else None
        rows, embeddings = self.make(self.block(number), packed)
        write_features(table.with_suffix(".safetensors"), embeddings)
        write_parquet(table, rows)
        self.run.workspace.publish(self.files(number, rows)[::-1])  # the table last
        return rows

    def _images(self, table: Path) -> str:
        """Return the folder of the images of a chunk's table, below the run's."""
        folder = table.parent.parent.parent.relative_to(self.run.folder)
        return f"{folder}/images/{self.name}"

    def files(self, number: int, rows: pd.DataFrame) -> list[Path]:
        """Return the files of a chunk: table, embeddings, and of the images of the column ``path`` those that it has drawn.

        Of a control that shows what another one has drawn, these are not all.
        """
        table = self.table(number)
        own = rows["path"][rows["path"].str.startswith(f"{self._images(table)}/")]
        paths = [self.run.folder / path for path in own]
        images = dict.fromkeys(path.parent if path.parent.suffix == ENDING else path for path in paths)
        return [table, table.with_suffix(".safetensors"), *images]


def chunks_of(run: RunContext, name: str) -> Chunks:
    """Return the chunks of a generator or control by its name."""
    kind = next(kind for prefix, kind in _KINDS.items() if name.startswith(prefix))
    chunks: Chunks = resolve_name(kind)(run, name)
    return chunks


def draw_all(run: RunContext, name: str) -> list[Path]:
    """Draw the chunks of a generator or control that are not finished, and return the files of all.

    Chunks that another process is at (`draw_share`) are waited for.
    """
    chunks = chunks_of(run, name)
    others = [number for number in range(len(chunks)) if not _in_turn(chunks, number, patient=False)]
    for number in others:  # drawn by now, unless that process has been killed
        _in_turn(chunks, number, patient=True)
    tables = [pd.read_parquet(chunks.table(number), columns=["path"]) for number in range(len(chunks))]
    return [path for number, rows in enumerate(tables) for path in chunks.files(number, rows)]


def draw_share(run: RunContext, name: str) -> int:
    """Draw what another process, which is at `draw_all`, has not come to yet; return how many chunks that were."""
    chunks = chunks_of(run, name)
    left = [number for number in range(len(chunks)) if not chunks.table(number).exists()]
    return sum(_in_turn(chunks, number, patient=False) for number in left)


def _in_turn(chunks: Chunks, number: int, patient: bool) -> bool:
    """Make sure that a chunk is drawn; return False, or with `patient` wait, while another process is at it."""
    run, table = chunks.run, chunks.table(number)
    try:
        with wait_lock(run.folder / ".turns", str(table.relative_to(run.folder)), patient):
            if chunks.finished(number) is None:
                chunks.draw(number)
                done = sum(chunks.table(each).exists() for each in range(len(chunks)))
                asked = len(chunks.asked)
                show(f"{chunks.name}: creatives", min(done * run.settings.shard_size, asked), asked)
    except Held:
        return False
    return True


def left_to_draw(run: RunContext, name: str) -> list[int]:
    """Return the numbers of the chunks of a generator or control for which something has to be drawn yet."""
    return chunks_of(run, name).left_to_draw()


def draw_part(run: RunContext, name: str, index: int, parts: int) -> int:
    """Draw every `parts`-th chunk from the `index`-th, counted from 1, that is not finished; return how many were drawn."""
    chunks = chunks_of(run, name)
    mine = range(index - 1, len(chunks), parts)
    _obtain(chunks, mine)
    left = [number for number in mine if chunks.finished(number) is None]
    for done, number in enumerate(left, start=len(mine) - len(left) + 1):
        chunks.draw(number)
        show(f"{name}: chunks of part {index}/{parts}", done, len(mine))
    return len(left)


def _obtain(chunks: Chunks, numbers: Sequence[int]) -> None:
    """Fetch what the run's home, where it has one, has of chunks."""
    workspace, tables = chunks.run.workspace, {number: chunks.table(number) for number in numbers}
    workspace.obtain([*tables.values(), *(table.with_suffix(".safetensors") for table in tables.values())])
    there = {number: table for number, table in tables.items() if table.exists()}
    workspace.obtain(
        path
        for number, table in there.items()
        for path in chunks.files(number, pd.read_parquet(table, columns=["path"]))
    )


def damaged_images(folder: Path, manifest: pd.DataFrame) -> list[str]:
    """Return the paths of images that are absent from a run's folder or not those that its manifest has the digest of.

    Parameters
    ----------
    folder
        The run's folder.
    manifest
        Columns ``path`` (relative to the folder) and ``sha256``.
    """
    pairs = zip(manifest["path"], manifest["sha256"], strict=True)
    return [path for path, digest in pairs if _sha256(folder / path) != digest]


def damaged_places(folder: Path) -> list[str]:
    """Return the paths of packed images that are not, where a run's index says, those that its manifest has the digest of."""
    if not all((folder / name).is_file() for name in (INDEX, MANIFEST)):
        return []
    drawn = pd.read_parquet(folder / MANIFEST, columns=["path", "sha256"]).drop_duplicates("path")
    packed = drawn[drawn["path"].str.contains(f"{ENDING}/", regex=False)]
    table = packed.merge(pd.read_parquet(folder / INDEX), how="left", on="path")
    places = zip(table["shard"], table["offset"].fillna(0), table["length"].fillna(0), strict=True)
    whole = [
        isinstance(shard, str)
        and (folder / shard).is_file()
        and hashlib.sha256(read_range(folder / shard, int(offset), int(length))).hexdigest() == digest
        for (shard, offset, length), digest in zip(places, table["sha256"], strict=True)
    ]
    return table["path"][~np.array(whole, dtype=bool)].tolist()


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except FileNotFoundError:
        return None
