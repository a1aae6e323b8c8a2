"""A user's first run on the published models, taken on their shapes with random weights: `recgen run --config pog`, one request.

Each generator learns for one step and draws in two, in a process of its own on top of what the ones before have finished; last,
the run is measured and reported. The memory that each task took at most is what `recgen run` records of it.

    python -m experiments.real_shapes.measure --work FOLDER            # all, then the report; 8 GB of disk
    python -m experiments.real_shapes.measure --work FOLDER taste pmg  # only these, without a report
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.renderer import render
from recgen.planning import memory
from recgen.planning.sizes import of_tables

RECGEN = [sys.executable, "-c", "from recgen.cli import main; main()"]
USERS, ITEMS, CLICKS = 8, 12, 8  # every image takes ViT-H some seconds

ONE_STEP = "max_steps: 1, requests_per_step: 1, train_users: 1, held_out_users: 1, references_per_user: 1, evaluate_every: 1"
ONE_GROUP = "clusters: 1, max_steps: 1, images_per_step: 1"
DECODE = "decode: {steps: 2}"
GENERATORS = {
    "taste": f"{{keep: null, {DECODE}}}",
    "ragar": f"{{{ONE_STEP}, r: 1, {DECODE}}}",
    "iamg": f"{{{ONE_STEP}, neighbours: 2, {DECODE}}}",
    "pmg": f"{{{ONE_STEP}, weights: [0.5], {DECODE}}}",
    "textual_inversion": f"{{{ONE_GROUP}, {DECODE}}}",
    "dreambooth": f"{{{ONE_GROUP}, {DECODE}}}",
    "rebeca": f"{{max_steps: 1, users_per_step: 2, prior_steps: 2, evaluate_every: 1, {DECODE}}}",
    "stable_diffusion": f"{{{DECODE}}}",
    "ip_adapter_mean": f"{{{DECODE}}}",
}
"""Those of pog.yaml and what else trains or draws."""


def prepare(work: Path, thin: bool = False) -> None:
    """Write random weights in the published shapes, and a few rows and images in POG's layout, where there are none yet.

    `thin` networks have the published widths and lengths where they meet others, and take seconds instead of minutes.
    """
    if not (work / "weights/blip2/config.json").is_file():
        (work / "weights").mkdir(parents=True, exist_ok=True)
        writing = [sys.executable, "-m", "experiments.real_shapes.weights", str(work / "weights")]
        subprocess.run([*writing, *(["--thin"] if thin else [])], check=True)
    if not (work / "data/pog/images.csv").is_file():
        write_raw(work / "raw/pog")
        converted = ["data", "prepare", "pog", "--raw", "raw/pog", "--out", "data/pog"]
        subprocess.run([*RECGEN, *converted], cwd=work, check=True)
        draw_images(work / "data/pog")


def write_raw(folder: Path) -> None:
    """Write POG's three files: every user clicks `CLICKS` items in a row, each another first."""
    folder.mkdir(parents=True)
    ids = [f"{number:032x}" for number in range(ITEMS)]
    items = [f"{token},{n % 5:08x},//images.invalid/{n}.jpg,连衣裙 dress {n}" for n, token in enumerate(ids)]
    clicks = [
        f"user-{user},{';'.join(ids[(user + n) % ITEMS] for n in range(CLICKS))},outfit-0"
        for user in range(USERS)
    ]
    for name, lines in (("item", items), ("user", clicks), ("outfit", [f"outfit-0,{ids[0]};{ids[1]}"])):
        (folder / f"{name}_data.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_images(data: Path) -> None:
    """Put a rendered image where `recgen data download` would put one for each row of image_urls.csv."""
    with (data / "image_urls.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            steps = zip((1, 3, 5, 7), SIZES, strict=False)
            look = Attributes(*(int(number * step % size) for step, size in steps))
            render(look, number).save(data / "images" / f"{row['file']}.png")


def settings(weights: Path, generators: Sequence[str], precision: str = "bf16") -> list[str]:
    """Return the overrides of pog.yaml: where the weights are, and one of everything."""
    thin, vit = weights / "encoder", f"{{model: ViT-H-14, pretrained: {weights}/open_clip_model.safetensors}}"
    return [
        f"recgen.encoder={thin if thin.is_dir() else vit}",
        f"recgen.backbone={weights}/stable-diffusion-v1-5",
        f"recgen.ip_adapter={weights}/ip-adapter_sd15.safetensors",
        f"recgen.captioner={weights}/blip2",
        f"recgen.llm={weights}/llama",
        f"recgen.precision={precision}", "recgen.tags={domain: outfit}", "recgen.foreground=plain-ground",
        f"recgen.generators=[{', '.join(generators)}]",
        *(f"recgen.{name}={GENERATORS[name]}" for name in generators),
        "recgen.controls=[original]", "recgen.requests=1", "recgen.downstream.seeds=1",
        "recgen.downstream.items=0", "epochs=1", "use_gpu=False",
        "topk=[10]", "valid_metric=Recall@10",
    ]  # fmt: skip


def run(work: Path, generators: Sequence[str], *options: str) -> None:
    """Run `recgen run --config pog` in the folder `work` with these generators."""
    overrides = settings(work / "weights", generators)
    subprocess.run([*RECGEN, "run", "--config", "pog", *options, "--set", *overrides], cwd=work, check=True)


def tasks(folder: Path) -> dict[str, dict[str, float]]:
    """Return what each task of a run took, by its name as in the folder."""
    keys = ("peak_memory_gib", "cpu_seconds")
    found: dict[str, dict[str, float]] = {}
    for path in sorted((folder / "stages").glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text())
        found[path.stem] = {key: round(record[key], 2) for key in keys if key in record}
    return found


def result(work: Path) -> dict[str, Any]:
    """Return what the run in `work` has taken so far beside what was planned, and what it has not fitted or drawn yet."""
    folder = work / "runs/pog"
    taken, sizes = tasks(folder), of_tables(folder)
    assert sizes is not None
    config = load_config("pog", settings(work / "weights", list(GENERATORS)))
    for planned in memory.tasks(config, sizes, on_gpu=False):
        found = taken.get(planned.task.replace("/", "."))
        if found is not None:
            found["planned_gib"] = round(planned.gib, 2)
    left = {
        stage: [name for name in GENERATORS if f"{stage}.{name}" not in taken]
        for stage in ("generator.fit", "generate")
    }
    peak = max(task.get("peak_memory_gib", 0.0) for task in taken.values())
    return {"peak_memory_gib": peak, "precision": "bf16", "left": left, "tasks": taken}


def main() -> None:
    """Run what was asked for, and write the result."""
    parser = argparse.ArgumentParser(description="every generator on the published shapes")
    parser.add_argument("--work", type=Path, required=True, help="folder of weights, data and run")
    parser.add_argument("generators", nargs="*", help="only these, without the report")
    given = parser.parse_args()
    work = given.work.resolve()
    prepare(work)
    for name in given.generators or GENERATORS:
        run(work, [name], "--until", "generate")
    if not given.generators:
        run(work, list(GENERATORS))
    write_json(Path(__file__).with_name("result.json"), result(work))


if __name__ == "__main__":
    main()
