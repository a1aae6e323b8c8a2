"""What does a report say of images that are not personal? Evaluated on a small simulated run, through the whole pipeline.

``python -m experiments.instruments.adversarial FOLDER`` simulates users and items, makes folders of images (the items' own, one
constant poster, black ones, the creatives of another generator dealt to other users of the item and to anybody) and runs each as
the generator `folder`. It writes adversarial.json: each verdict of each report; none may be good but that an image shows its
item where it does. Without a placebo a difference that is clear is worded "cannot tell without a placebo"; none of these has one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from recgen import api
from recgen.core.errors import UserError
from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.report.answers import answers
from recgen.report.run_files import RunFiles

SETTINGS = [
    "recgen.simulator={users: 120, items: 120, interactions_per_user: 60}",
    "recgen.requests={protocol: blind, items: 25, per_item: 4}",
    "recgen.ranker.settings={Verifier: {hidden_size: 128, epochs: 20}}",
]
CONTROLS = "recgen.controls=[original, constant, swapped, random_item]"
DECODE = "recgen.stable_diffusion={decode: {steps: 4, sampler: dpm++2m, guidance_scale: 3}}"
SEED = 7


def main(folder: Path) -> None:
    """Run everything and write adversarial.json beside this file."""
    base = folder / "base"
    api.run(
        "simulated.yaml",
        str(base),
        [*SETTINGS, CONTROLS, DECODE, "recgen.generators=[stable_diffusion]"],
        until="evaluate",
    )
    made = pd.read_parquet(base / "creatives/manifest.parquet")
    found: dict[str, Any] = {"stable_diffusion": verdicts(base)}
    for name, images in inputs(base, made).items():
        write_folder(folder / name, made, images)
        found[name] = judged(folder, name)
        print(name, found[name], flush=True)
    write_json(Path(__file__).with_name("adversarial.json"), found)


def inputs(base: Path, made: pd.DataFrame) -> dict[str, Callable[[int], Image.Image]]:
    """Return for each kind of image what to show for each row of the manifest."""
    items = pd.read_parquet(base / "dataset/items.parquet").set_index("item_id")["image"]
    rng = numpy_rng(SEED, "adversarial")
    anybody = rng.permutation(len(made))
    within = (
        made.reset_index()
        .groupby("item_id")["index"]
        .transform(lambda rows: rng.permutation(rows.to_numpy()))
    )
    poster = items.iloc[0]

    def open_made(row: int) -> Image.Image:
        return Image.open(base / made["path"].iloc[row])

    return {
        "original": lambda row: Image.open(base / items[made["item_id"].iloc[row]]),
        "constant": lambda row: Image.open(base / poster),
        "shuffled within items": lambda row: open_made(int(within.iloc[row])),
        "shuffled over all": lambda row: open_made(int(anybody[row])),
        "black": lambda row: Image.new("RGB", (64, 64)),
    }


def write_folder(folder: Path, made: pd.DataFrame, image: Callable[[int], Image.Image]) -> None:
    """Write images and the manifest that the generator `folder` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(len(made)):
        image(row).convert("RGB").save(folder / f"{row}.png")
    paths = [f"{row}.png" for row in range(len(made))]
    made[["user_id", "item_id"]].assign(path=paths).to_csv(folder / "manifest.csv", index=False)


def judged(folder: Path, name: str) -> dict[str, str]:
    """Run a folder of images as a generator beside the base run, whose models are taken over, and return the verdicts."""
    run = folder / f"run {name}".replace(" ", "-")
    block = f"recgen.given={json.dumps({'generator': 'folder', 'path': str(folder / name)})}"
    try:
        settings = [*SETTINGS, CONTROLS, block, "recgen.generators=[given]"]
        api.run("simulated.yaml", str(run), settings, until="evaluate", share=True)
    except UserError as error:
        return {"refused": error.found}
    return verdicts(run)


def verdicts(run: Path) -> dict[str, str]:
    """Return the verdict of each question of a run's report, with its colour."""
    return {
        answer.question: f"{answer.lines[0].verdict}: {answer.lines[0].label}"
        if answer.lines
        else "not measured"
        for answer in answers(RunFiles.read(run))
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
