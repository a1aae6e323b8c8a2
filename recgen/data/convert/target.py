"""The folder that a converter writes; a conversion that fails changes nothing in it."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError
from recgen.core.io import write_json
from recgen.data.convert.log import Log, Selection, select
from recgen.data.convert.raw import tidy, unusable
from recgen.data.convert.tally import Tally

LONGEST_TEXT = 2_000  # characters, as many as the dataset stage reads (`recgen.data.catalogue`)
PROVENANCE = "provenance.json"

_ROW_BYTES, _PARQUET_PACKS = (
    32,
    8,
)  # about: an interaction as text, and how much smaller it is in a Parquet file
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]{0,119}")


def image_name(item: str) -> str:
    """Return the file name, without ending, of an item's image: the token where every system takes it, else a digest of it."""
    if _FILE_NAME.fullmatch(item) and not item.endswith((".", " ")):
        return item
    return "x-" + hashlib.blake2b(item.encode(), digest_size=16).hexdigest()


class Target:
    """The output folder of one conversion; open it with `writing`.

    Attributes
    ----------
    tally
        Counts of what is kept and dropped; ends in provenance.json.
    scratch
        A folder for temporary files, on the output's disk.
    items, users
        Tokens of the items, and of the users with interactions, written so far.
    """

    def __init__(self, out: Path, scratch: Path) -> None:
        self.out, self.scratch, self.name = out, scratch, out.resolve().name
        self.tally = Tally()
        self.items: set[str] = set()
        self.users: set[str] = set()
        self._open = ExitStack()
        self._writers: dict[str, Any] = {}
        self._notes: dict[str, Any] = {}

    def log(self, *raw: Path, rows: int = 0) -> Log:
        """Return an empty log for the interactions of raw files, or for so many that are made."""
        folder = self.scratch / "log"
        folder.mkdir()
        packed = {".parquet": _PARQUET_PACKS}
        size = sum(path.stat().st_size * packed.get(path.suffix, 1) for path in raw)
        return Log(folder, size + rows * _ROW_BYTES)

    def note(self, **facts: Any) -> None:
        """Put facts into provenance.json."""
        self._notes |= facts

    def _rows(self, file: str, header: Sequence[str], delimiter: str = "\t") -> Any:
        """Return the csv writer of an output file, opened with its header when it is first asked for."""
        if file not in self._writers:
            stream = self._open.enter_context((self.scratch / file).open("w", encoding="utf-8", newline=""))
            self._writers[file] = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
            self._writers[file].writerow(header)
        return self._writers[file]

    def add_item(
        self,
        item: str,
        texts: Mapping[str, str],
        image: Path | None = None,
        url: str | None = None,
        where: str = "",
    ) -> bool:
        """Write an item, unless its id is unusable or was there before.

        Parameters
        ----------
        item
            Its token.
        texts
            Its columns by ``name:type``, the same ones for all items; put on one line and cut at 2,000 characters.
        image
            Its image; linked where the disk allows it, else copied.
        url
            Where its image is.
        where
            The row, for the example in the report.

        Returns
        -------
        Whether it was written.
        """
        why = unusable(item) or ("an item that was there before" if item in self.items else "")
        if why:
            self.tally.drop("items", why, where)
            return False
        self.items.add(item)
        values = [tidy(text, LONGEST_TEXT) for text in texts.values()]
        if any(len(text) > LONGEST_TEXT for text in texts.values()):
            self.tally.change("texts", f"cut at {LONGEST_TEXT:,} characters", where)
        self._rows(f"{self.name}.item", ["item_id:token", *texts]).writerow([item, *values])
        self.tally.keep("items")
        if image is not None:
            self._add_image(item, image)
        if url:
            self._rows("image_urls.csv", ["item_id", "file", "url"], ",").writerow(
                [item, image_name(item), url]
            )
            self.tally.keep("image URLs")
        if image is not None or url:
            self._rows("images.csv", ["item_id", "file"], ",").writerow([item, image_name(item)])
        return True

    def _add_image(self, item: str, image: Path) -> None:
        folder = self.scratch / "images"
        folder.mkdir(exist_ok=True)
        place = folder / f"{image_name(item)}{image.suffix.lower()}"
        try:
            os.link(image.resolve(), place)
        except OSError:
            shutil.copyfile(image, place)
        self.tally.keep("images")

    def add_user(self, user: str, texts: Mapping[str, str]) -> None:
        """Write a user's columns, by ``name:type`` and the same ones for all users."""
        values = [tidy(text, LONGEST_TEXT) for text in texts.values()]
        self._rows(f"{self.name}.user", ["user_id:token", *texts]).writerow([user, *values])

    def add_interactions(self, log: Log, selection: Selection) -> set[str]:
        """Write the interactions of the users who stay, and return the items they met.

        Where interactions have no times, their place among the user's is their time.

        Raises
        ------
        UserError
            When nobody stays.
        """
        met: set[str] = set()
        rated = timed = None
        for user, rows in select(log, selection, self.tally):
            for turn, row in enumerate(rows, start=1):
                if rated is None:
                    rated, timed = bool(row.rating), bool(row.time)
                header = [
                    "user_id:token",
                    "item_id:token",
                    *(["rating:float"] if rated else []),
                    "timestamp:float",
                ]
                values = [user, row.item, *([row.rating] if rated else []), row.time if timed else turn]
                self._rows(f"{self.name}.inter", header).writerow(values)
                met.add(row.item)
            self.users.add(user)
            self.tally.keep("users")
            self.tally.keep("interactions", len(rows))
        if rated is None:
            raise UserError(
                "the raw files",
                found="; ".join(self.tally.lines()[1:]) or "no interactions",
                expected="users with enough likes",
            )
        return met

    def commit(self) -> None:
        """Put everything into the output folder."""
        self._open.close()
        names = [path.name for path in self.scratch.iterdir() if path.is_file()]
        for stale in {"image_urls.csv", "images.csv", f"{self.name}.user"} - set(names):
            (self.out / stale).unlink(missing_ok=True)
        (self.out / "images").mkdir(parents=True, exist_ok=True)
        if (self.scratch / "images").exists():
            for image in (self.scratch / "images").iterdir():
                image.replace(self.out / "images" / image.name)
        for name in names:
            (self.scratch / name).replace(self.out / name)
        counts = {
            "kept": self.tally.kept,
            "dropped": self.tally.entries("dropped"),
            "changed": self.tally.entries("changed"),
        }
        write_json(self.out / PROVENANCE, {**self._notes, **counts})

    def summary(self) -> str:
        """Return the report that the command prints."""
        lines = [f"{self.out}: a RecBole data set", *(f"  {line}" for line in self.tally.lines())]
        if (self.out / "image_urls.csv").exists():
            fetch = f"recgen data download --urls {self.out}/image_urls.csv --out {self.out}/images"
            lines.append(f"Fetch the images with: {fetch}")
        return "\n".join(lines)

    def keys(self) -> str:
        """Return the line that says which keys of a configuration name the data set."""
        return (
            f"In the YAML: dataset: {self.name}, data_path: {self.out.parent}/, recgen.images: {self.out}/images,"
            f" recgen.image_ids: {self.out}/images.csv"
        )


@contextmanager
def writing(out: Path, raw: Path, source: str, **options: Any) -> Iterator[Target]:
    """Open the output folder of a conversion; what is in it changes only if nothing fails.

    Raises
    ------
    UserError
        Where `raw` is no folder, or `out` holds a data set that no converter wrote.
    """
    if not raw.is_dir():
        raise UserError(f"--raw {raw}", found="no such folder", expected="the folder of the raw files")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}", found="a file", expected="a folder, or a name that is free")
    if (out / f"{out.resolve().name}.inter").exists() and not (out / PROVENANCE).exists():
        raise UserError(
            f"--out {out}", found="a data set that was not prepared here", expected="a folder without one",
            todo="Give another name, or move that data set away.",
        )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out) as scratch:
        target = Target(out, Path(scratch))
        given = {key: value for key, value in options.items() if value is not None}
        target.note(source=source, raw=raw.resolve().name, options=given)
        with target._open:
            yield target
            target.commit()
