"""SER30K (Liu et al., MM 2022): stickers by theme, and users made of themes as RAGAR's protocol makes them.

The data has no users. RAGAR (section 5.1) merges two random themes into a history and takes the reference from another theme, for
2,230 users; the paper gives no order within a history, so it is shuffled.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.convert.images import inside
from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import LONGEST_ROW
from recgen.data.convert.target import Target, writing

USERS = 2_230  # RAGAR, table 1

_LAYOUT = (
    "SER30K as published: Images/<topic>/ and Annotations/all_annos.json or Annotations/image-level/*.json"
)
_MOST_BYTES = 32 * LONGEST_ROW
_PARTS = ("train.json", "val.json", "test.json")
_WORDS = re.compile(r"[^\W\d_]+")


def prepare(raw: Path, out: Path, users: int = USERS, seed: int = 0, history: int | None = None) -> Target:
    """Convert SER30K; `raw` is the published folder SER_Dataset.

    Parameters
    ----------
    raw, out
        The folder of the published files, and the data set's.
    users, seed
        How many pseudo-users to make; each follows from the seed and its own number alone.
    history
        At most so many stickers of the two themes; None takes all.
    """
    with writing(out, raw, "SER30K", users=users, seed=seed, history=history) as target:
        target.note(
            users="made of themes: two random ones are a history, and the reference is of a third (RAGAR's protocol)"
        )
        themes = _write_stickers(raw, target)
        if len(themes) < 3:
            raise UserError(
                f"--raw {raw}", found=f"{len(themes)} themes with stickers", expected="three or more"
            )
        log = target.log(rows=users * len(target.items) * 2 // len(themes))
        for number in range(1, users + 1):
            _add_user(f"u{number}", themes, seed, history, log)
        target.add_interactions(log, Selection(seed=seed))
    return target


def _write_stickers(raw: Path, target: Target) -> dict[str, list[str]]:
    """Write the items, ``<topic>/<file name>``, and return those of each topic."""
    themes: dict[str, list[str]] = {}
    for number, sticker in enumerate(_annotations(raw), start=1):
        where = f"annotation {number}"
        topic, name = (
            (str(sticker.get(key) or "") for key in ("topic", "file_name"))
            if isinstance(sticker, dict)
            else ("", "")
        )
        if not topic or not name:
            target.tally.drop("items", "no topic or no file name", where)
            continue
        item = f"{topic}/{name}"
        image = inside(raw / "Images", item)
        if image is None:
            target.tally.drop("items", "no such image under Images", f"{where}: {item}")
            continue
        texts = {
            "text:token_seq": str(sticker.get("text") or ""),
            "theme:token_seq": " ".join(_WORDS.findall(topic)),
            "emotion:token": str(sticker.get("anno", "")),
        }
        if target.add_item(item, texts, image=image, where=where):
            themes.setdefault(topic, []).append(item)
    return {topic: themes[topic] for topic in sorted(themes)}


def _annotations(raw: Path) -> list[Any]:
    folder = raw / "Annotations"
    for names in (["all_annos.json"], [f"image-level/{part}" for part in _PARTS], list(_PARTS)):
        if all((folder / name).is_file() for name in names):
            return [annotation for name in names for annotation in _read(folder / name)]
    raise UserError(f"--raw {raw}", found="no annotations", expected=_LAYOUT)


def _read(path: Path) -> list[Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(
            str(path), found=f"{path.stat().st_size:,} bytes", expected=f"at most {_MOST_BYTES:,}"
        )
    try:
        annotations = json.loads(path.read_text(encoding="utf-8-sig"))["annotations"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            str(path), found=f"{type(error).__name__}: {error}"[:200], expected='{"annotations": [...]}'
        ) from error
    if not isinstance(annotations, list):
        raise UserError(
            str(path), found=f"annotations of type {type(annotations).__name__}", expected="a list"
        )
    return annotations


def _add_user(user: str, themes: dict[str, list[str]], seed: int, history: int | None, log: Log) -> None:
    rng = numpy_rng(seed, "SER30K pseudo-user", user)
    first, second, third = (list(themes)[row] for row in rng.choice(len(themes), 3, replace=False))
    merged = themes[first] + themes[second]
    for row in rng.permutation(len(merged))[:history]:
        log.add(user, merged[row])
    log.add(user, themes[third][rng.integers(len(themes[third]))])
