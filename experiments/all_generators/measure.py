"""Every generator of the papers' tables in one report, on the same requests, two of them through stand-ins made here.

GLIDE and LaVIT come in as folders of images: here a program with nothing of recgen's generators in it makes collages of what
the user liked. Openjourney's weights cannot be had here: a copy of the run's backbone, fine-tuned to one style, takes its place.

Usage: python -m experiments.all_generators.measure
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from experiments import harness
from generators.common.denoising import denoising_losses, draw_noise
from recgen import api as session
from recgen.assets import asset_folder
from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import GROUNDS, MOTIFS, PATTERNS, Attributes
from recgen.data.simulation.renderer import render
from recgen.diffusion.backbone import load_backbone

HERE = Path(__file__).parent
METRICS = (
    "delta_r_judge", "score_gain_judge", "cps", "cpis", "cs", "cis", "ssim_personal", "ssim_semantic", "true_utility_gain",
    "content_preservation",
)  # fmt: skip
STEPS, BATCH, RATE = 60, 8, 2e-4


def collages(run: Path, folder: Path) -> None:
    """Write an image for each request of a run, the item's own in a frame of what the user liked, and the manifest."""
    items = pd.read_parquet(run / "dataset/items.parquet").set_index("item_id")["image"]
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, request in enumerate(pd.read_parquet(run / "dataset/requests.parquet").to_dict("records")):
        liked = [Image.open(run / items[item]).convert("RGB") for item in list(request["history"])[-16:]]
        frame = Image.new("RGB", (64, 64))
        for place in range(16):
            tile = (
                liked[place % len(liked)].resize((16, 16)) if liked else Image.new("RGB", (16, 16), "white")
            )
            frame.paste(tile, (place % 4 * 16, place // 4 * 16))
        frame.paste(Image.open(run / items[request["item_id"]]).convert("RGB").resize((40, 40)), (12, 12))
        frame.save(folder / f"{number}.png")
        rows.append({"user_id": request["user_id"], "item_id": request["item_id"], "path": f"{number}.png"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def one_style(folder: Path) -> None:
    """Fine-tune the UNet of demo-sd to one ground and pattern, whatever the content, and save the pipeline."""
    backbone, rng = load_backbone("demo-sd"), numpy_rng(0, "one style")
    unet = backbone.pipeline.unet.requires_grad_(True)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=RATE)
    for step in range(STEPS):
        looks = [
            Attributes(
                int(rng.integers(len(MOTIFS))),
                int(rng.integers(10)),
                GROUNDS.index("wine"),
                PATTERNS.index("rings"),
            )
            for _ in range(BATCH)
        ]
        clean = backbone.encode_images([render(look, int(rng.integers(10**6))) for look in looks])
        keys = [("", str(place)) for place in range(BATCH)]
        noise, times = draw_noise(backbone, clean.shape[1:], 0, f"one style {step}", keys)
        condition = backbone.embed_prompts([f"a {MOTIFS[look.motif]}" for look in looks])
        optimiser.zero_grad()
        denoising_losses(backbone, condition, clean, noise, times).mean().backward()
        optimiser.step()
    shutil.copytree(asset_folder("demo-sd"), folder, dirs_exist_ok=True)
    unet.to(memory_format=torch.contiguous_format).save_pretrained(folder / "unet")


def main() -> None:
    """Make the stand-ins, run the recipe and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(7,))
    work = given.work / "all_generators"
    run, recipe = work / "run", str(HERE / "recipe.yaml")
    checkpoint, folder = work / "one-style", work / "collages"
    if not given.only_collect:
        if not (checkpoint / "model_index.json").exists():
            one_style(checkpoint)
        if not (folder / "manifest.csv").exists():
            session.run(recipe, str(run), ["recgen.generators=[stable_diffusion]"], until="dataset")
            collages(run, folder)
        session.run(
            recipe, str(run), [f"recgen.openjourney.checkpoint={checkpoint}", f"recgen.folder.path={folder}"]
        )
    rows = pd.read_parquet(run / "per_request.parquet").assign(seed=given.seeds[0])
    asked = rows.groupby("generator")[["user_id", "item_id"]].apply(
        lambda own: sorted(map(tuple, own.to_numpy().tolist()))
    )
    if len({json.dumps(pairs) for pairs in asked}) != 1:
        raise RuntimeError("the generators did not answer the same requests")
    means = {name: harness.means(own, METRICS) for name, own in rows.groupby("generator", sort=False)}
    downstream = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["downstream"]
    harness.save(
        {"requests": len(asked.iloc[0]), "means": means, "downstream": downstream}, HERE / "result.json"
    )


if __name__ == "__main__":
    main()
