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

SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECGEN_REAL_SHAPES"),
    reason="takes minutes, 5 GB of disk and 10 GiB of memory: set RECGEN_REAL_SHAPES=1",
)


def test_pog_runs_on_the_published_shapes_within_24_gib(tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    weights.mkdir()
    subprocess.run([sys.executable, str(SUPPORT / "real_shapes.py"), str(weights)], check=True)
    for name, size in (
        ("USERS", 8),
        ("ITEMS", 16),
        ("CLICKS", 8),
    ):  # every image takes ViT-H a second or more
        monkeypatch.setattr(raw_pog, name, size)
    raw_pog.write_raw_pog(tmp_path / "raw/pog")
    recgen = [sys.executable, "-c", "from recgen.cli import main; main()"]
    prepare = ["data", "prepare", "pog", "--raw", "raw/pog", "--out", "data/pog"]
    subprocess.run([*recgen, *prepare], cwd=tmp_path, check=True)
    raw_pog.draw_images(tmp_path / "data/pog")
    settings = (
        f"recgen.encoder={{model: ViT-H-14, pretrained: {weights}/open_clip_model.safetensors}}",
        f"recgen.backbone={weights}/stable-diffusion-v1-5",
        f"recgen.ip_adapter={{ip_adapter: {weights}/ip-adapter_sd15.safetensors, decode: {{steps: 2}}}}",
        "recgen.generators=[ip_adapter]", "recgen.requests=1", "recgen.downstream.seeds=1", "epochs=1", "use_gpu=False",
        "topk=[10]", "valid_metric=Recall@10",
    )  # fmt: skip
    subprocess.run([*recgen, "run", "--config", "pog", "--set", *settings], cwd=tmp_path, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GiB")
    assert peak < 24
    folder = tmp_path / "runs/pog"
    (row,) = pd.read_parquet(folder / "creatives/manifest.parquet").to_dict("records")
    assert Image.open(folder / row["path"]).size == (512, 512)
    assert json.loads(row["recipe"])["decode"]["steps"] == 2
    assert json.loads((folder / "metrics.json").read_text())["creatives"]["ip_adapter"]["cis"]["n"] == 1
    assert (folder / "report.html").is_file()
