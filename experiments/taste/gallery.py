"""Draw docs/gallery.png: what some simulated users liked, an item's own image, and what was made of it for them.

Usage: python -m experiments.taste.gallery [--work FOLDER] [--seeds 1]

From the runs of `experiments.taste.generators`; taste is drawn here. The requests are the first ones, chosen by nothing.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from experiments import harness
from experiments.taste.arms import Arms
from experiments.taste.generators import NAMES, RECIPE
from experiments.taste.worlds import WORLDS, changes_of
from recgen.config.loader import load_config
from recgen.pipeline.context import RunContext
from recgen.stages.generate import creatives

FILE = Path(__file__).parents[2] / "docs/gallery.png"
ROWS, LIKED, SIDE, GAP, HEAD = 6, 4, 88, 6, 26
SHOWN = [name for name in NAMES[::-1] if name != "rebeca"]


def main() -> None:
    """Draw the gallery of a seed."""
    given = harness.arguments(__doc__ or "", (1,))
    world, seed = WORLDS[0], given.seeds[0]
    changes = [*changes_of(world, seed), f"recgen.generators=[{', '.join(NAMES)}]"]
    folder = given.work / f"taste/{world.name}/seed{seed}/generators"
    run = RunContext(load_config(str(RECIPE), changes), folder)
    run.prepare_torch()
    requests = run.requests[:ROWS]
    columns = [[_own(run, request.item_id) for request in requests]]
    columns += [
        [Image.open(folder / path) for path in creatives(run, name)[0]["path"][:ROWS]] for name in SHOWN
    ]
    columns.append(Arms(run, requests).shown("both"))
    liked = [[_own(run, item) for item in request.history[-LIKED:]] for request in requests]
    _sheet(liked, columns, ["its own image", *SHOWN, "taste"]).quantize(256).save(FILE, optimize=True)


def _own(run: RunContext, item: str) -> Image.Image:
    return Image.open(run.folder / run.items["image"].iloc[run.data.item_rows[item]])


def _sheet(liked: list[list[Image.Image]], columns: list[list[Image.Image]], names: list[str]) -> Image.Image:
    small, start = SIDE // 2 - 1, GAP + SIDE + 3 * GAP
    size = (start + len(columns) * (SIDE + GAP), HEAD + ROWS * (SIDE + GAP))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, name in enumerate(["the user liked", *names]):
        left = GAP if place == 0 else start + (place - 1) * (SIDE + GAP)
        pen.text((left + SIDE / 2, HEAD / 2), name.replace("_", " "), "black", font, anchor="mm")
    for row in range(ROWS):
        top = HEAD + row * (SIDE + GAP)
        for place, image in enumerate(liked[row]):
            corner = GAP + place % 2 * (small + 2), top + place // 2 * (small + 2)
            sheet.paste(_scaled(image, small), corner)
        for place, column in enumerate(columns):
            sheet.paste(_scaled(column[row], SIDE), (start + place * (SIDE + GAP), top))
    return sheet


def _scaled(image: Image.Image, side: int) -> Image.Image:
    return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
