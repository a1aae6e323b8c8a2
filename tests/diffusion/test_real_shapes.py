"""The path of a user's first run on the published models, taken once: their shapes, random weights, `pog.yaml`, one request."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import raw_pog
from PIL import Image
from safetensors.torch import load_file

SUPPORT = Path(__file__).parents[1] / "support"
RECGEN = [sys.executable, "-c", "from recgen.cli import main; main()"]

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
"""Those of pog.yaml and what else trains or draws: one request, one step of training, two of drawing."""

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECGEN_REAL_SHAPES"),
    reason="takes half an hour, 8 GB of disk and 14 GiB of memory: set RECGEN_REAL_SHAPES=1",
)


def prepare(folder: Path, monkeypatch) -> Path:
    """Write random weights in the published shapes and a little data set in POG's format; return the folder of weights."""
    weights = folder / "weights"
    weights.mkdir()
    subprocess.run([sys.executable, str(SUPPORT / "real_shapes.py"), str(weights)], check=True)
    for name, size in (
        ("USERS", 8),
        ("ITEMS", 12),
        ("CLICKS", 8),
    ):  # every image takes ViT-H a second or more
        monkeypatch.setattr(raw_pog, name, size)
    raw_pog.write_raw_pog(folder / "raw/pog")
    converted = ["data", "prepare", "pog", "--raw", "raw/pog", "--out", "data/pog"]
    subprocess.run([*RECGEN, *converted], cwd=folder, check=True)
    raw_pog.draw_images(folder / "data/pog")
    return weights


def test_every_generator_learns_and_draws_on_the_published_shapes_within_24_gib(tmp_path, monkeypatch):
    weights = prepare(tmp_path, monkeypatch)
    settings = (
        f"recgen.encoder={{model: ViT-H-14, pretrained: {weights}/open_clip_model.safetensors}}",
        f"recgen.backbone={weights}/stable-diffusion-v1-5",
        f"recgen.ip_adapter={weights}/ip-adapter_sd15.safetensors",
        f"recgen.captioner={weights}/blip2",
        f"recgen.llm={weights}/llama",
        "recgen.precision=bf16", "recgen.tags={domain: outfit}", "recgen.foreground=plain-ground",
        f"recgen.generators=[{', '.join(GENERATORS)}]",
        *(f"recgen.{name}={block}" for name, block in GENERATORS.items()),
        "recgen.controls=[original]", "recgen.requests=1", "recgen.downstream.seeds=1",
        "recgen.downstream.items=0", "epochs=1", "use_gpu=False",
        "topk=[10]", "valid_metric=Recall@10",
    )  # fmt: skip
    for more in (["--dry-run"], []):
        subprocess.run(
            [*RECGEN, "run", "--config", "pog", *more, "--set", *settings], cwd=tmp_path, check=True
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GiB")
    assert peak < 24
    folder = tmp_path / "runs/pog"
    rows = pd.read_parquet(folder / "creatives/manifest.parquet").to_dict("records")
    assert [row["generator"] for row in rows] == list(GENERATORS)
    measured = json.loads((folder / "metrics.json").read_text())["creatives"]
    for row in rows:
        recipe = json.loads(row["recipe"])
        assert Image.open(folder / row["path"]).size == (512, 512)
        assert (recipe["decode"]["steps"], recipe["precision"]) == (2, "bfloat16")
        assert measured[row["generator"]]["cis"]["n"] == 1
    scales = {row["generator"]: json.loads(row["recipe"])["decode"]["ip_adapter_scale"] for row in rows}
    assert scales["ip_adapter_mean"] == scales["ragar"] == 0.5 and scales["rebeca"] == scales["iamg"] == 1.0
    for name in ("ragar", "iamg", "pmg", "dreambooth", "rebeca"):
        saved = [
            tensor
            for file in (folder / f"generator/{name}").rglob("*.safetensors")
            for tensor in load_file(file).values()
        ]
        assert saved and all(tensor.isfinite().all() for tensor in saved), name
    assert (folder / "report.html").is_file()
