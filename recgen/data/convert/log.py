"""Interactions of any number, sorted by user on disk: each user's can then be read together, and memory holds a piece of them."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recgen.core.seeding import seed_for
from recgen.data.convert.tally import Tally

_PIECE_BYTES = 32 * 2**20  # of raw file to a piece: some 200 MB as Python objects
_MOST_PIECES = 400  # files open at the same time


class Interaction(NamedTuple):
    """One interaction; `rating` and `time` are numbers as text, or empty where the data has none."""

    item: str
    rating: str
    time: str


@dataclass(frozen=True)
class Selection:
    """Which users stay, and as how many.

    Attributes
    ----------
    min_likes
        Likes that a user needs; three are what a training, a validation and a test interaction take.
    like
        Ratings from here up are likes; None: every interaction is one.
    users
        How many users stay, drawn by `seed` and each user's token alone; None: all.
    seed
        See `users`.
    histories
        Cut each user's interactions, oldest first, into users of their own with this many each (RAGAR's "split user
        historical sequences to ensure each contains 20 interactions"); None: do not.
    """

    min_likes: int = 3
    like: float | None = None
    users: int | None = None
    seed: int = 0
    histories: int | None = None


class Log:
    """Interactions in temporary files by a hash of their user.

    Parameters
    ----------
    folder
        An empty folder for them; whoever made it removes it.
    expected_bytes
        About how large the raw file is; decides how many pieces there are.
    """

    def __init__(self, folder: Path, expected_bytes: int) -> None:
        self._open = ExitStack()
        count = min(max(expected_bytes // _PIECE_BYTES, 1), _MOST_PIECES)
        self._paths = [folder / f"{number}.tsv" for number in range(count)]
        self._files = [self._open.enter_context(path.open("w", encoding="utf-8")) for path in self._paths]

    def add(self, user: str, item: str, rating: str = "", time: str = "") -> None:
        """Add an interaction whose ids are usable and whose numbers are numbers (see `raw`)."""
        piece = zlib.crc32(user.encode()) % len(self._files)
        self._files[piece].write(f"{user}\t{item}\t{rating}\t{time}\n")

    def users(self) -> Iterator[tuple[str, list[Interaction]]]:
        """Yield each user's interactions, oldest first; what has the same time, or none, in the order it came in."""
        self._open.close()
        for path in self._paths:
            grouped: dict[str, list[Interaction]] = {}
            with path.open(encoding="utf-8") as file:
                for line in file:
                    user, item, rating, time = line[:-1].split("\t")
                    grouped.setdefault(user, []).append(Interaction(item, rating, time))
            for user, rows in grouped.items():
                yield user, sorted(rows, key=lambda row: float(row.time or 0))


def select(log: Log, selection: Selection, tally: Tally) -> Iterator[tuple[str, list[Interaction]]]:
    """Yield the users that stay with their interactions, and count what does not.

    A repeated pair of user and item counts once, where it first stood.
    """
    last = None
    if selection.users is not None:
        able = (user for user, _ in _able(log, selection, Tally()))
        drawn = heapq.nsmallest(selection.users, (_draw(selection, user) for user in able))
        last = drawn[-1] if drawn else -1
    for user, rows in _able(log, selection, tally):
        if last is None or _draw(selection, user) <= last:
            yield user, rows
        else:
            tally.drop("users", f"not among the {selection.users:,} drawn", user)
            tally.drop("interactions", "of users who were not drawn", user, len(rows))


def _draw(selection: Selection, user: str) -> int:
    return seed_for(selection.seed, "users of a prepared data set", user)


def _able(log: Log, selection: Selection, tally: Tally) -> Iterator[tuple[str, list[Interaction]]]:
    for user, rows in _pieces(log, selection, tally):
        if sum(_liked(row, selection) for row in rows) >= selection.min_likes:
            yield user, rows
        else:
            tally.drop("users", f"fewer than {selection.min_likes} likes", user)
            tally.drop(
                "interactions", f"of users with fewer than {selection.min_likes} likes", user, len(rows)
            )


def _liked(row: Interaction, selection: Selection) -> bool:
    return selection.like is None or not row.rating or float(row.rating) >= selection.like


def _pieces(log: Log, selection: Selection, tally: Tally) -> Iterator[tuple[str, list[Interaction]]]:
    for user, rows in log.users():
        first: dict[str, Interaction] = {}
        for row in rows:
            first.setdefault(row.item, row)
        once = list(first.values())
        tally.drop("interactions", "the same user and item again", user, len(rows) - len(once))
        size = selection.histories
        if size is None:
            yield user, once
            continue
        whole = len(once) - len(once) % size
        tally.drop("interactions", f"left over when histories were cut into {size}", user, len(once) - whole)
        for start in range(0, whole, size):
            yield f"{user}_{start // size + 1}", once[start : start + size]
