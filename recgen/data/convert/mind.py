"""MIND (Wu et al., ACL 2020): clicks on news. Its files are separated by tabs, without header, and quotes mean nothing in them.

``behaviors.tsv`` holds an impression to a row: id, user, time, history (may be empty), shown news as ``<id>-<1 if clicked>``. A
history's clicks have no time and came before the logged weeks; here they stand, a second apart, before the first impression.
"""

from __future__ import annotations

import calendar
import time
from pathlib import Path

from recgen.core.errors import UserError
from recgen.data.convert.images import find_images
from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import split, unusable
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import Target, writing

_LAYOUT = "MIND as published: behaviors.tsv and news.tsv, here or in folders such as MINDsmall_train and MINDsmall_dev"


def prepare(
    raw: Path,
    out: Path,
    images: Path | None = None,
    users: int | None = None,
    seed: int = 0,
    min_likes: int = 3,
) -> Target:
    """Convert MIND; news that nobody who stays clicked are left out.

    Parameters
    ----------
    raw, out
        The folder of the published files, or of their folders, and the data set's.
    images
        Images by news id, a folder or a zip; MIND itself has none and its URLs have expired.
    users, seed
        How many users to draw, and the seed of the draw; None keeps all.
    min_likes
        Clicks that a user needs.
    """
    with writing(out, raw, "MIND", users=users, seed=seed, min_likes=min_likes) as target:
        folders = _folders(raw)
        known = _news_ids(folders)
        log = target.log(*(folder / "behaviors.tsv" for folder in folders))
        start = min((_first_time(folder / "behaviors.tsv") for folder in folders), default=0)
        for folder in folders:
            _read_behaviours(folder / "behaviors.tsv", log, known, start, target.tally)
        met = target.add_interactions(log, Selection(min_likes, users=users, seed=seed))
        found = {} if images is None else find_images(images, target.scratch, target.tally)
        for folder in folders:
            _write_news(folder / "news.tsv", target, met, found)
    return target


def _folders(raw: Path) -> list[Path]:
    found = [folder for folder in (raw, *sorted(raw.iterdir())) if (folder / "behaviors.tsv").is_file()]
    missing = [folder for folder in found if not (folder / "news.tsv").is_file()]
    if not found or missing:
        raise UserError(
            f"--raw {raw}", found=f"no {'news' if missing else 'behaviors'}.tsv", expected=_LAYOUT
        )
    return found


def _news_ids(folders: list[Path]) -> set[str]:
    # 8 columns, or 7 where the entities of abstracts are left out
    rows = (
        fields[0]
        for folder in folders
        for _, fields in split(folder / "news.tsv", Tally(), "\t", (7, 8), "items")
    )
    return {token for token in rows if not unusable(token)}


def _first_time(path: Path) -> int:
    """Return the earliest time of a behaviours file in seconds since 1970."""
    rows = (fields for _, fields in split(path, Tally(), "\t", (5,), "impressions"))
    return min((seen for fields in rows if (seen := _seconds(fields[2])) is not None), default=0)


def _seconds(text: str) -> int | None:
    """Return the seconds since 1970 of ``11/13/2019 8:36:57 AM``, read as UTC because MIND names no zone."""
    try:
        return calendar.timegm(time.strptime(text, "%m/%d/%Y %I:%M:%S %p"))
    except ValueError:
        return None


def _read_behaviours(path: Path, log: Log, known: set[str], start: int, tally: Tally) -> None:
    histories: dict[str, int] = {}
    for number, (_, user, shown_at, history, shown) in split(path, tally, "\t", (5,), "impressions"):
        seconds, where = _seconds(shown_at), f"row {number} of {path.parent.name}/{path.name}"
        why = unusable(user) or ("" if seconds is not None else "a time that cannot be read")
        if why:
            tally.drop("impressions", why, where)
            continue
        read = history.split()
        if histories.get(user) != hash(history):  # every row of a user repeats the same history
            histories[user] = hash(history)
            if not read:
                tally.drop("histories", "empty", where)
            for turn, item in enumerate(read):
                _add(log, user, item, start - len(read) + turn, known, tally, where)
        for entry in shown.split():
            item, dash, label = entry.rpartition("-")
            if not dash or label not in ("0", "1"):
                tally.drop("shown news", "no label, as in the test set", where)
            elif label == "1":
                assert seconds is not None
                _add(log, user, item, seconds, known, tally, where)


def _add(log: Log, user: str, item: str, seconds: int, known: set[str], tally: Tally, where: str) -> None:
    if item in known:
        log.add(user, item, time=str(seconds))
    else:
        tally.drop("interactions", "news without a usable row in news.tsv", f"{where}: {item}")


def _write_news(path: Path, target: Target, met: set[str], images: dict[str, Path]) -> None:
    for number, fields in split(path, target.tally, "\t", (7, 8), "items"):
        item, category, subcategory, title, abstract = fields[:5]
        where = f"row {number} of {path.parent.name}/{path.name}"
        if item not in met:
            target.tally.drop("items", "nobody who stayed clicked it", where)
            continue
        texts = {
            "title:token_seq": title, "category:token": category, "subcategory:token": subcategory,
            "abstract:token_seq": abstract,
        }  # fmt: skip
        target.add_item(item, texts, image=images.get(item), where=where)
