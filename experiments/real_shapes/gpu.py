"""On a GPU: images a second of Stable Diffusion 1.5's shapes against diffusers' own loop, and the memory of each generator.

    python -m experiments.real_shapes.gpu throughput --work FOLDER
    python -m experiments.real_shapes.gpu memory --work FOLDER [--sdxl]

Weights are random and of the published shapes (`experiments.real_shapes.weights`), so that images show nothing; time and memory
do not depend on what they show. Both write into gpu.json beside this file, over what earlier runs wrote there.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from experiments.real_shapes import measure
from recgen.config.loader import load_config
from recgen.core.compat import prepare_torchvision
from recgen.core.device import allow_fast_matmul
from recgen.core.io import read_json, write_json
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling, scheduler
from recgen.planning import memory
from recgen.planning.sizes import of_tables

prepare_torchvision()
from diffusers import StableDiffusionPipeline  # noqa: E402

RESULT = Path(__file__).with_name("gpu.json")
PROMPT = "a dress, on a plain ground"
STEPS, GUIDANCE, BATCHES, TURNS = 50, 7.5, (1, 4, 16), 2
Draw = Callable[[int, int], object]
"""Draws a batch of so many images in so many steps."""
TOGETHER = 3
"""Generators at work side by side, each in a process whose own memory is measured."""
SDXL = (
    "recgen.backbone={weights}/stable-diffusion-xl-base-1.0",
    "recgen.ip_adapter={weights}/ip-adapter_sdxl_vit-h.safetensors",
)


def ways(work: Path) -> dict[str, Draw]:
    """Return what draws: diffusers' own loop, and recgen without and with `recgen.compile`."""
    weights = work / "weights/stable-diffusion-v1-5"
    return {
        "diffusers, float16": diffusers_loop(weights, torch.float16),
        "recgen": recgen_loop(weights, compiled=False),
        "recgen, compile: true": recgen_loop(weights, compiled=True),
    }


def warm(each: dict[str, Draw]) -> dict[str, float]:
    """Return the seconds of a first, short call in each way, in batches of the largest size and then the others."""
    return {
        f"{name}, batch {batch}": round(seconds(draw, batch, 2), 1)
        for name, draw in each.items()
        for batch in sorted(BATCHES, reverse=True)
    }


def throughput(each: dict[str, Draw]) -> dict[str, dict[str, Any]]:
    """Return images a second by way and batch size, the median of turns in each of which every way draws."""
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(TURNS):
        for batch in BATCHES:
            for name, draw in each.items():
                taken.setdefault((name, batch), []).append(seconds(draw, batch, STEPS))
                print(name, batch, taken[name, batch], flush=True)
    return {
        f"{name}, batch {batch}": {
            "images_per_second": round(batch / statistics.median(found), 3),
            "seconds": [round(one, 2) for one in found],
            "of_them_not_steps": round(rest(each[name], batch), 2),
        }
        for (name, batch), found in taken.items()
    }


def seconds(draw: Draw, batch: int, steps: int) -> float:
    """Return what a call takes by the clock, until the GPU is done."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    draw(batch, steps)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def rest(draw: Draw, batch: int) -> float:
    """Return the seconds of a call that do not grow with its steps: text, decoding, images of 8 bits."""
    few, more = (seconds(draw, batch, steps) for steps in (2, 6))
    return few - (more - few) / 2


def diffusers_loop(weights: Path, dtype: torch.dtype) -> Draw:
    """Return a call of diffusers' pipeline as its documentation writes it."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights, dtype=dtype).to("cuda")
    pipeline.scheduler = scheduler("ddim", pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator("cuda")
    return lambda batch, steps: (
        pipeline(
            [PROMPT] * batch,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=seed.manual_seed(0),
        ).images
    )


def recgen_loop(weights: Path, compiled: bool) -> Draw:
    """Return the same by recgen, each image with noise of its own."""
    backbone = load_backbone(str(weights), device="cuda", precision="auto", compiled=compiled)

    def draw(batch: int, steps: int) -> object:
        sampling = Sampling(steps=steps, sampler="ddim", guidance_scale=GUIDANCE, batch_size=batch)
        return list(backbone.generate([Condition(seed, PROMPT) for seed in range(batch)], sampling))

    return draw


def peaks(work: Path, generators: Sequence[str], sdxl: bool) -> dict[str, Any]:
    """Return what the tasks of these generators took of the GPU's memory beside what was planned; each learns and draws once.

    What all of them need is done first; then each goes on in a copy of the run.
    """
    further = overrides(work, sdxl)
    base = work / "runs/pog"
    failed = {}
    with ThreadPoolExecutor(TOGETHER) as pool:
        done = pool.map(lambda name: one(work, name, further), generators)
        for name, error in zip(generators, done, strict=True):
            if error:
                failed[name] = error
    tasks: dict[str, Any] = {}
    for folder in (base, *(work / "parts" / name / "runs/pog" for name in generators)):
        for path in sorted((folder / "stages").glob("*.json")):
            record = read_json(path) or {}
            if "peak_gpu_memory_gib" in record:
                keys = ("peak_gpu_memory_gib", "peak_memory_gib", "seconds")
                tasks[path.stem] = {key: round(record[key], 2) for key in keys}
    sizes = of_tables(base)
    assert sizes is not None
    config = load_config("pog", [*measure.settings(work / "weights", list(generators), "auto"), *further])
    for planned in memory.tasks(config, sizes, on_gpu=True):
        task = tasks.get(planned.task.replace("/", "."))
        if task is not None:
            task["planned_gib"] = round(planned.gib, 2)
    return {"failed": failed, "tasks": tasks}


def prepare(work: Path, generators: Sequence[str], sdxl: bool) -> None:
    """Do what all generators need: data, features, recommenders."""
    run(work, generators, overrides(work, sdxl), "ranker")


def overrides(work: Path, sdxl: bool) -> list[str]:
    """Return what a run on a GPU says beyond `measure.settings`."""
    return ["use_gpu=True", *((each.format(weights=work / "weights") for each in SDXL) if sdxl else ())]


def one(work: Path, name: str, further: Sequence[str]) -> str:
    """Let a generator go on in a folder of its own; return the end of what it said where that failed."""
    part = work / "parts" / name
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / "data").symlink_to(work / "data")
    shutil.copytree(work / "runs", part / "runs")
    try:
        run(part, [name], further, "generate")
    except subprocess.CalledProcessError as error:
        print(name, "failed", str(error.output)[-3000:], flush=True)
        return str(error.output)[-600:]
    print(name, "done", flush=True)
    return ""


def run(place: Path, names: Sequence[str], further: Sequence[str], until: str) -> None:
    """Run `recgen run --config pog` in a folder; the weights lie beside the data."""
    weights = (place / "data").resolve().parent / "weights"
    settings = [*measure.settings(weights, names, "auto"), *further]
    command = [*measure.RECGEN, "run", "--config", "pog", "--until", until, "--set", *settings]
    subprocess.run(
        command, cwd=place, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("throughput", "prepare", "memory"))
    parser.add_argument("--work", type=Path, required=True, help="folder of weights, data and runs")
    parser.add_argument("--sdxl", action="store_true")
    parser.add_argument("--generators", nargs="*", default=list(measure.GENERATORS))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "prepare":
        prepare(work, given.generators, given.sdxl)
        return
    if given.what == "throughput":
        allow_fast_matmul("cuda")
        each = ways(work)
        first = warm(each)
        key, found = "throughput", {"first_seconds": first, **throughput(each)}
    else:
        key, found = "sdxl" if given.sdxl else "sd15", peaks(work, given.generators, given.sdxl)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    write_json(
        given.out, {**(read_json(given.out) or {}), "gpu": device, "torch": torch.__version__, key: found}
    )


if __name__ == "__main__":
    main()
