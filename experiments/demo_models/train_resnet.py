"""Train demo-resnet, the judge's own image encoder: a small ResNet that knows the renderer's posters and photographs.

On rendered posters it learns to name their attributes, which makes its embedding blind to what a drawing of the same attributes
changes by chance. On photographs it learns their category and to tell an image from all others whatever crop of it is seen
(SimCLR). No sentence and no image of a diffusion model takes part, so it shares neither the data nor the errors of demo-clip.

Usage: python experiments/demo_models/train_resnet.py OUT PHOTOS SECONDS, where PHOTOS is a folder with images.zip (ID.jpg) and
items.csv (item_id, category, split).
"""

from __future__ import annotations

import csv
import json
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import draw_attributes
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional as F
from train_clip import augment
from transformers import ResNetConfig, ResNetModel

from recgen.data.simulation.attributes import SIZES
from recgen.data.simulation.renderer import render

EDGE, STORED = 64, 80
RENDERS, SHOWN, SEEN = 10_000, 96, 40  # renders in all; renders and photographs of a step
RATE, TEMPERATURE = 2e-3, 0.2
CONFIG = {
    "embedding_size": 24,
    "hidden_sizes": [48, 96, 128, 160],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": EDGE, "width": EDGE},
    "resample": 3,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@dataclass(frozen=True)
class Photos:
    """Photographs uint8 ``[n, STORED, STORED, 3]`` of the training split and their categories ``[n]``."""

    images: np.ndarray
    categories: np.ndarray

    @classmethod
    def read(cls, folder: Path, split: str = "train") -> Photos:
        """Read the photographs of a split."""
        with (folder / "items.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = sorted({row["category"] for row in rows})
        rows = [row for row in rows if row["split"] == split]
        with zipfile.ZipFile(folder / "images.zip") as archive:
            images = [_square(archive, f"{row['item_id']}.jpg") for row in rows]
        return cls(np.stack(images), np.array([names.index(row["category"]) for row in rows]))


def _square(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        image = Image.open(file).convert("RGB")
        return np.asarray(ImageOps.pad(image, (STORED, STORED), color=image.getpixel((1, 1))))


def rendered(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return posters uint8 ``[size, 64, 64, 3]`` and their attributes int64 ``[size, 4]``, none of a held-out combination."""
    rng = np.random.default_rng(3)
    codes = [draw_attributes(rng) for _ in range(size)]
    images = [np.asarray(render(each, int(rng.integers(2**31)))) for each in codes]
    return np.stack(images), np.array(codes)


def crops(photos: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return one view of each photograph, uint8 ``[n, 64, 64, 3]``: a crop, mirrored by chance, in a light of its own."""
    views = np.empty((len(photos), EDGE, EDGE, 3), dtype=np.uint8)
    for view, photo in zip(views, photos, strict=True):
        edge = int(rng.integers(48, STORED + 1))
        top, left = rng.integers(0, STORED - edge + 1, 2)
        piece = Image.fromarray(photo[top : top + edge, left : left + edge]).resize(
            (EDGE, EDGE), Image.Resampling.BILINEAR
        )
        lit = np.asarray(piece)[:, :: 1 if rng.random() < 0.5 else -1] * rng.uniform(0.7, 1.2)
        view[:] = lit.clip(0, 255)
    return torch.from_numpy(views)


def contrastive(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return SimCLR's NT-Xent loss of two views ``[n, D]`` of n images."""
    both = F.normalize(torch.cat([first, second]), dim=1)
    logits = (both @ both.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(both)).roll(len(first))
    return F.cross_entropy(logits, partner)


def main(out: Path, folder: Path, seconds: float) -> None:
    """Train for so many seconds of CPU and write a folder that transformers reads."""
    torch.manual_seed(0)
    model = ResNetModel(ResNetConfig(**CONFIG))
    model = model.to(memory_format=torch.channels_last)
    width = CONFIG["hidden_sizes"][-1]
    photos, (posters, codes) = Photos.read(folder), rendered(RENDERS)
    heads = nn.ModuleList(nn.Linear(width, size) for size in SIZES)
    category = nn.Linear(width, int(photos.categories.max()) + 1)
    projection = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64))
    modules = [model, heads, category, projection]
    optimiser = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=RATE, weight_decay=0.02)
    rng, start, step = np.random.default_rng(0), time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * max(0.01, 1 - spent / seconds)
        rows, seen = rng.integers(len(posters), size=SHOWN), rng.integers(len(photos.images), size=SEEN)
        views = torch.cat([crops(photos.images[seen], rng) for _ in range(2)])
        pixels = torch.cat(
            [augment(torch.from_numpy(posters[rows]), rng), views.permute(0, 3, 1, 2) / 127.5 - 1]
        )
        found = model(pixels.contiguous(memory_format=torch.channels_last)).pooler_output.flatten(1)
        shown, a, b = found.split([SHOWN, SEEN, SEEN])
        target = torch.from_numpy(codes[rows])
        attributes = sum(F.cross_entropy(head(shown), target[:, i]) for i, head in enumerate(heads))
        kinds = F.cross_entropy(category(a), torch.from_numpy(photos.categories[seen]))
        alike = contrastive(projection(a), projection(b))
        optimiser.zero_grad()
        (attributes + 0.5 * kinds + 0.25 * alike).backward()
        optimiser.step()
        if step % 50 == 0:
            losses = [float(loss.detach()) for loss in (attributes, kinds, alike)]
            print(f"step {step} {spent:.0f}s attributes, categories, views {np.round(losses, 3)}", flush=True)
        step += 1
    save(model, out)


def save(model: nn.Module, out: Path) -> None:
    """Write half-precision weights and the configuration of the model and of its preprocessing."""
    model.eval().to(memory_format=torch.contiguous_format).half().save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
