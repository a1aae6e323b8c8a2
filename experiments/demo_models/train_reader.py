"""Train the attribute reader on rendered pictures and write it, with its measured accuracy, to recgen/assets.

    python experiments/demo_models/train_reader.py [--out DIR]

Half of every batch is clean; the other half is degraded as generated and compressed images are: blurred by a smaller size,
wobbling edges, shifted tints, noise, JPEG. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.simulation.attribute_reader import SIDE, AttributeReader, ReaderNetwork, to_tensor
from recgen.data.simulation.attributes import NAMES, SIZES, Attributes
from recgen.data.simulation.renderer import render

SEED = 20
EPOCHS, BATCH, LEARNING_RATE = 14, 128, 3e-3
HELD_OUT = 2_000


def main() -> None:
    """Render, train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "recgen/assets/attribute-reader"
    )
    out = parser.parse_args().out
    started = time.time()
    torch.manual_seed(SEED)
    train = np.array(list(itertools.product(*map(range, SIZES))) * 2)
    images, labels = draw(train, "reader train"), torch.from_numpy(train)
    print(f"{len(train)} images rendered in {time.time() - started:.0f} s", flush=True)
    network = ReaderNetwork()
    fit(network, images, labels)
    reader = AttributeReader(network, {})
    reader.config.update(
        measure(reader), trained_on=len(train), seed=SEED, seconds=round(time.time() - started)
    )
    reader.save(out)
    print(reader.config)


def draw(attributes: np.ndarray, stage: str) -> Tensor:
    """Render each row (int ``[n, 4]``) with a seed of its own, uint8 ``[n, 3, 64, 64]``."""
    images = (
        render(Attributes(*row.tolist()), seed_for(SEED, stage, "", str(n)))
        for n, row in enumerate(attributes)
    )
    return torch.cat([(to_tensor([image]) * 255).byte() for image in images])


def fit(network: ReaderNetwork, images: Tensor, labels: Tensor) -> None:
    """Train `network` in place by the sum of four cross-entropies."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        network.train()
        total, order = 0.0, torch.randperm(len(images))
        for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            batch = images[rows].float() / 255
            batch[BATCH // 2 :] = degrade(batch[BATCH // 2 :])
            parts = network(batch).split(SIZES, dim=1)
            loss = sum(
                (functional.cross_entropy(p, labels[rows, a]) for a, p in enumerate(parts)), torch.zeros(())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / (len(order) // BATCH):.4f}", flush=True)


def degrade(batch: Tensor) -> Tensor:
    """Return float ``[B, 3, 64, 64]`` images as a small generator or a strong compression would leave them."""
    batch = wobble(batch)
    side = int(torch.randint(28, SIDE + 1, ()))
    small = functional.interpolate(
        batch, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
    batch = functional.interpolate(small, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    contrast, tint = 1 + 0.08 * torch.randn(len(batch), 1, 1, 1), 0.03 * torch.randn(len(batch), 3, 1, 1)
    batch = (batch - 0.5) * contrast + 0.5 + tint
    batch = (batch + 0.05 * torch.rand(len(batch), 1, 1, 1) * torch.randn_like(batch)).clamp(0, 1)
    return torch.stack([jpeg(image) if torch.rand(()) < 0.3 else image for image in batch])


def wobble(batch: Tensor) -> Tensor:
    """Move pixels by a smooth random field of about one pixel."""
    field = functional.interpolate(
        torch.randn(len(batch), 2, 12, 12), size=(SIDE, SIDE), mode="bicubic", align_corners=False
    )
    identity = functional.affine_grid(
        torch.eye(2, 3).expand(len(batch), 2, 3), list(batch.shape), align_corners=False
    )
    grid = identity + field.permute(0, 2, 3, 1) * torch.rand(len(batch), 1, 1, 1) * (3 / SIDE)
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def jpeg(image: Tensor) -> Tensor:
    """Compress a float ``[3, 64, 64]`` image at a random quality."""
    buffer = io.BytesIO()
    array = (image * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(buffer, "JPEG", quality=int(torch.randint(30, 95, ())))
    return to_tensor([Image.open(buffer)])[0]


def measure(reader: AttributeReader) -> dict:
    """Return the accuracy per attribute on images that were not trained on, clean and degraded."""
    attributes = numpy_rng(SEED, "reader held out").integers(SIZES, size=(HELD_OUT, 4))
    images = draw(attributes, "reader held out").float() / 255
    return {
        "accuracy": accuracy(reader, images, attributes),
        "accuracy_degraded": accuracy(reader, degrade(images), attributes),
        "held_out": HELD_OUT,
    }


def accuracy(reader: AttributeReader, images: Tensor, attributes: np.ndarray) -> dict[str, float]:
    """Return the share of images read right, for each attribute."""
    opened = [Image.fromarray((p * 255).byte().permute(1, 2, 0).numpy()) for p in images]
    right = (reader.read(opened) == attributes).mean(axis=0)
    return {name: round(float(share), 4) for name, share in zip(NAMES, right, strict=True)}


if __name__ == "__main__":
    main()
