"""A few dozen rows in POG's published layout, with what goes wrong in it; and images for what was converted from them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.renderer import render

USERS, ITEMS, CLICKS = 24, 40, 12
SHORT, UNKNOWN, BROKEN = "user-short", "item-unknown", "item-broken,no title"


def item_id(number: int) -> str:
    """Ids are 32 hexadecimal digits, as in the published files."""
    return f"{number:032x}"


def write_raw_pog(folder: Path, seed: int = 0) -> Path:
    """Write the three files and return their folder.

    All users but `SHORT` click `CLICKS` items; the first one on two rows. One click is on an item that has no row, one row of the
    item file is broken, one item has no image, and every third title holds a comma.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    items = [_item(number) for number in range(ITEMS)]
    items[5] = items[5].replace("//images.invalid/5.jpg", "")
    (folder / "item_data.txt").write_text("\n".join([*items, BROKEN]) + "\n", encoding="utf-8")
    rows = []
    for user in range(USERS):
        clicked = [item_id(n) for n in rng.choice(ITEMS, CLICKS, replace=False)]
        if user == 0:
            rows += [f"user-0,{';'.join(clicked[:4])},outfit-1", f"user-0,{';'.join(clicked[3:])},outfit-2"]
        else:
            rows.append(f"user-{user},{';'.join(clicked)},outfit-{user % 7}")
    rows += [f"{SHORT},{item_id(0)};{UNKNOWN},outfit-1", "user-idle,,outfit-1"]
    (folder / "user_data.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    outfits = [f"outfit-{n},{item_id(n)};{item_id(n + 1)}" for n in range(8)]
    (folder / "outfit_data.txt").write_text("\n".join(outfits) + "\n", encoding="utf-8")
    return folder


def _item(number: int) -> str:
    comma = ", 2019新款" if number % 3 == 0 else ""
    return f'{item_id(number)},{number % 5:08x},//images.invalid/{number}.jpg,连衣裙 dress "{number}"{comma}'


def draw_images(dataset: Path) -> None:
    """Put an image where `recgen data download` would have put one for each row of image_urls.csv."""
    with (dataset / "image_urls.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            look = Attributes(
                *(int(number * step % size) for step, size in zip((1, 3, 5, 7), SIZES, strict=True))
            )
            render(look, number).save(dataset / "images" / f"{row['file']}.png")
