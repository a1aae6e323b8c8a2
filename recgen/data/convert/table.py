"""Anybody's tables: items, interactions and users as CSV or Parquet, and images in a folder, a column or at URLs.

===============================  ===================================================================================
``items.csv|parquet``            item_id; ``image``, an image's path in the folder; ``image_url``; all others are texts
``interactions.csv|parquet``     user_id, item_id, and where there are: rating, timestamp (seconds, or ISO 8601)
``users.csv|parquet``            user_id and anything; may be absent
``images/``                      images by item_id, where items has no ``image``; may be absent
===============================  ===================================================================================
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from recgen.core.errors import UserError
from recgen.data.convert.images import find_images, inside
from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import is_number, rows, unusable, web_url
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import Target, writing

_OURS = ("item_id", "image", "image_url")


def prepare(
    raw: Path, out: Path, images: Path | None = None, with_images_only: bool = False, like: float | None = None,
    users: int | None = None, seed: int = 0, min_likes: int = 3, simulate_users: int | None = None,
) -> Target:  # fmt: skip
    """Convert a folder of tables.

    Parameters
    ----------
    raw, out
        The folder of the tables, and the data set's.
    images
        Images by item_id, a folder or a zip; ``raw/images`` where it is None.
    with_images_only
        Leave out items without an image, and their interactions.
    like
        Ratings from here up are likes; None: every interaction is one.
    users, seed
        How many users to draw, and the seed of all draws; None keeps all.
    min_likes
        Likes that a user needs.
    simulate_users
        Draw a log of so many users in place of the interactions (see `recgen.data.convert.simulated_users`).
    """
    options = {
        "with_images_only": with_images_only,
        "like": like,
        "users": users,
        "seed": seed,
        "min_likes": min_likes,
    }
    with writing(out, raw, "table", **options, simulate_users=simulate_users) as target:
        items, interactions, people = (_find(raw, name) for name in ("items", "interactions", "users"))
        if items is None:
            raise UserError(
                f"--raw {raw}", found="no items.csv or items.parquet", expected="a table of items"
            )
        found = _write_items(raw, items, images, with_images_only, target)
        if simulate_users is not None:
            if interactions is not None:
                raise UserError(
                    "--simulate-users", found=str(interactions), expected="a folder without interactions"
                )
            from recgen.data.convert.simulated_users import MET, NOTE, draw_log

            log = target.log(rows=simulate_users * MET)
            draw_log(log, found, simulate_users, seed)
            target.note(users=NOTE)
            like = None  # a simulated user stays with any three likes, and all have more
        elif interactions is None:
            raise UserError(
                f"--raw {raw}", found="no interactions.csv or interactions.parquet", expected="a table of interactions",
                todo="Add one, or have users made up with --simulate-users N.",
            )  # fmt: skip
        else:
            log = target.log(interactions)
            _read_interactions(interactions, log, target)
        target.add_interactions(log, Selection(min_likes, like, users, seed))
        if people is not None:
            _write_users(people, target)
    return target


def _find(raw: Path, name: str) -> Path | None:
    found = [
        raw / f"{name}.{ending}" for ending in ("csv", "parquet") if (raw / f"{name}.{ending}").is_file()
    ]
    if len(found) > 1:
        raise UserError(f"--raw {raw}", found=f"{name}.csv and {name}.parquet", expected="one of them")
    return found[0] if found else None


def _write_items(
    raw: Path, path: Path, images: Path | None, with_images_only: bool, target: Target
) -> dict[str, Path]:
    """Write the items and return the images of those that have one."""
    tally, given = target.tally, {}
    folder = images or (raw / "images")
    by_name = find_images(folder, target.scratch, tally) if images or folder.is_dir() else {}
    for number, row in rows(path, tally, ["item_id"], "items"):
        item, where = row["item_id"].strip(), f"row {number} of {path.name}"
        named = row.get("image", "").strip()
        image = inside(raw, named) if named else by_name.get(item)
        if named and image is None:
            tally.drop("images", "no such file in the folder", f"{where}: {named}")
        if with_images_only and image is None:
            tally.drop("items", "no image", where)
            continue
        if (
            target.add_item(item, _texts(path, row), image=image, url=_url(row, tally, where), where=where)
            and image
        ):
            given[item] = image
    return given


def _texts(path: Path, row: dict[str, str]) -> dict[str, str]:
    wrong = next((name for name in row if not name.isidentifier()), None)
    if wrong is not None:
        raise UserError(
            f"{path}, row 1", found=f"a column {wrong!r}", expected="names of letters, digits and _"
        )
    return {f"{name}:token_seq": text for name, text in row.items() if name not in _OURS}


def _url(row: dict[str, str], tally: Tally, where: str) -> str | None:
    given = row.get("image_url", "").strip()
    url = web_url(given)
    if given and url is None:
        tally.drop("image URLs", "not one of the web", f"{where}: {given}")
    return url


def _read_interactions(path: Path, log: Log, target: Target) -> None:
    for number, row in rows(path, target.tally, ["user_id", "item_id"], "interactions"):
        user, item, rating = row["user_id"].strip(), row["item_id"].strip(), row.get("rating", "").strip()
        time = _seconds(row["timestamp"].strip()) if "timestamp" in row else ""
        why = unusable(user) or ("" if item in target.items else "an item that was not kept")
        if not why and "rating" in row and not is_number(rating):
            why = "a rating that is no number"
        if not why and time is None:
            why = "a timestamp that is neither seconds nor ISO 8601"
        if why:
            target.tally.drop("interactions", why, f"row {number} of {path.name}")
        else:
            log.add(user, item, rating, time or "")


def _seconds(text: str) -> str | None:
    """Return a timestamp as seconds, a date without a zone taken as UTC; None where it is neither."""
    if is_number(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return repr((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _write_users(path: Path, target: Target) -> None:
    written: set[str] = set()
    for number, row in rows(path, target.tally, ["user_id"], "user rows"):
        user, where = row.pop("user_id").strip(), f"row {number} of {path.name}"
        if user in target.users and user not in written:
            written.add(user)
            target.add_user(user, _texts(path, row))
        else:
            target.tally.drop(
                "user rows", "there before" if user in written else "a user who was not kept", where
            )
