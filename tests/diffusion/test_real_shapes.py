"""The path of a user's first run on the published models, taken once: their shapes, random weights, `pog.yaml`, one request."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from experiments.real_shapes import measure

TRAINED = ("ragar", "iamg", "pmg", "dreambooth", "rebeca")


def test_what_was_run_on_the_published_shapes_took_what_is_planned():
    """As experiments/real_shapes recorded it; what it had no time for it names."""
    recorded = json.loads(Path(measure.__file__).with_name("result.json").read_text())
    for stage in ("generator.fit", "generate"):
        run = {name.removeprefix(f"{stage}.") for name in recorded["tasks"] if name.startswith(f"{stage}.")}
        assert set(measure.GENERATORS) - run == set(recorded["left"][stage])
        assert {"stable_diffusion", "ip_adapter_mean", "dreambooth"} <= run
    planned = {name: task for name, task in recorded["tasks"].items() if "planned_gib" in task}
    assert len(planned) >= 9
    off = {name: task["planned_gib"] / task["peak_memory_gib"] - 1 for name, task in planned.items()}
    assert max(map(abs, off.values())) < 0.1, off
    assert recorded["peak_memory_gib"] < 14


@pytest.mark.skipif(
    not os.environ.get("RECGEN_REAL_SHAPES"),
    reason="takes an hour of one core, 8 GB of disk and 14 GiB of memory: set RECGEN_REAL_SHAPES=1",
)
def test_every_generator_learns_and_draws_on_the_published_shapes(tmp_path):
    measure.prepare(tmp_path)
    for name in measure.GENERATORS:
        measure.run(tmp_path, [name], "--until", "generate")
    measure.run(tmp_path, list(measure.GENERATORS))
    taken = measure.tasks(tmp_path / "runs/pog")
    assert max(task["peak_memory_gib"] for task in taken.values()) < 24
    check(tmp_path / "runs/pog")


@pytest.mark.slow
def test_every_generator_learns_and_draws_where_networks_meet_as_the_published_ones_do(tmp_path):
    """Embeddings of 1,024 numbers, 77 tokens of 768, a language model 4,096 wide, 512 pixels, bf16; thin inside."""
    measure.prepare(tmp_path, thin=True)
    measure.run(tmp_path, list(measure.GENERATORS))
    check(tmp_path / "runs/pog")


def check(folder: Path) -> None:
    """Check that all generators have drawn one image each as they were told to, and saved weights that are numbers."""
    rows = pd.read_parquet(folder / "creatives/manifest.parquet").to_dict("records")
    assert [row["generator"] for row in rows] == list(measure.GENERATORS)
    measured = json.loads((folder / "metrics.json").read_text())["creatives"]
    for row in rows:
        recipe = json.loads(row["recipe"])
        assert Image.open(folder / row["path"]).size == (512, 512)
        assert (recipe["decode"]["steps"], recipe["precision"]) == (2, "bfloat16")
        assert measured[row["generator"]]["cis"]["n"] == 1
    scales = {row["generator"]: json.loads(row["recipe"])["decode"]["ip_adapter_scale"] for row in rows}
    assert scales["ip_adapter_mean"] == scales["ragar"] == 0.5 and scales["rebeca"] == scales["iamg"] == 1.0
    for name in TRAINED:
        files = (folder / f"generator/{name}").rglob("*.safetensors")
        saved = [tensor for file in files for tensor in load_file(file).values()]
        assert saved and all(tensor.isfinite().all() for tensor in saved), name
    assert (folder / "report.html").is_file()
