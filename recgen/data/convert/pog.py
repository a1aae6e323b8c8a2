"""POG (Chen et al., KDD 2019): clicks of users of a fashion shop on single items, and where each item's image is.

``user_data.txt`` is ``user,item;item;...,outfit`` and ``item_data.txt`` is ``item,category,image,title``; neither has a header
or quotes, and a title may hold commas. A user may stand on several rows. The outfit that the user clicked has no
image of its own, so it is left out, and ``outfit_data.txt`` is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import need, split, unusable, web_url
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import Target, writing

LAYOUT = "POG as published: user_data.txt and item_data.txt"


def prepare(raw: Path, out: Path, users: int | None = None, seed: int = 0, min_likes: int = 3) -> Target:
    """Convert POG.

    Parameters
    ----------
    raw
        The folder of the published files.
    out
        The data set's folder.
    users, seed
        How many users to draw, and the seed of the draw; None keeps all. RAGAR has 1,000.
    min_likes
        Clicked items that a user needs.

    Returns
    -------
    The written data set. Items are those that the users who stay clicked. A click has no time of its own; its time is its
    place among the user's clicks.
    """
    with writing(out, raw, "POG", users=users, seed=seed, min_likes=min_likes) as target:
        user_file, item_file = need(raw, ["user_data.txt", "item_data.txt"], LAYOUT)
        tokens = (fields[0].strip() for _, fields in _items(item_file, Tally()))
        known = {token for token in tokens if not unusable(token)}
        log = target.log(user_file)
        _read_clicks(user_file, log, known, target.tally)
        met = target.add_interactions(log, Selection(min_likes, users=users, seed=seed))
        _write_items(item_file, target, met)
    return target


def _items(path: Path, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    return split(path, tally, ",", (4,), "items")


def _read_clicks(path: Path, log: Log, known: set[str], tally: Tally) -> None:
    for number, (user, items, _) in split(path, tally, ",", (3,), "user rows"):
        user, where = user.strip(), f"row {number}"
        clicked = [item.strip() for item in items.split(";") if item.strip()]
        why = unusable(user) or ("" if clicked else "no clicks")
        if why:
            tally.drop("user rows", why, where)
            continue
        for item in clicked:
            if item in known:
                log.add(user, item)
            else:
                tally.drop(
                    "interactions", "an item without a usable row in item_data.txt", f"{where}: {item}"
                )


def _write_items(path: Path, target: Target, met: set[str]) -> None:
    for number, (item, category, image, title) in _items(path, target.tally):
        item, where = item.strip(), f"row {number} of {path.name}"
        if item not in met:
            target.tally.drop("items", "nobody who stayed clicked it", where)
            continue
        url = web_url(image.strip())
        if url is None:
            target.tally.drop("image URLs", "none given, or not one of the web", f"{where}: {image[:80]}")
        target.add_item(item, {"title:token_seq": title, "category:token": category}, url=url, where=where)
