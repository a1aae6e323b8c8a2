"""Train the attribute reader on rendered pictures and write it, with its measured accuracy, to recgen/assets.

    python experiments/demo_models/train_reader.py [--out DIR]

Four fifths of the pictures have factors of their own, half of these towards the ends of several, as users' favourites are.
Half of every batch is clean; the other half is degraded as generated and compressed images are: blurred, wobbling edges,
shifted tints, noise, JPEG. About 4 minutes an epoch of 18,000 on one core.
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
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.simulation.attribute_reader import SIDE, AttributeReader, ReaderNetwork, to_tensor
from recgen.data.simulation.attributes import NAMES, SIZES, Attributes
from recgen.data.simulation.factors import FACTORS, Factors
from recgen.data.simulation.renderer import render, seeded_factors
from recgen.data.simulation.tastes import draw_factors

SEED = 20
EPOCHS, BATCH, LEARNING_RATE = 14, 128, 3e-3
FACTOR_WEIGHT = 20.0
"""Of the factors' squared error beside four cross-entropies."""
HELD_OUT = 2_000


def main() -> None:
    """Render, train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "recgen/assets/attribute-reader"
    )
    parser.add_argument("--start", type=Path, help="weights to go on from: a model.safetensors")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="the highest learning rate")
    parser.add_argument("--looks", type=int, default=3, help="pictures of each combination of attributes")
    parser.add_argument(
        "--varied", type=float, default=0.8, help="share of pictures with factors of their own"
    )
    parser.add_argument("--stage", default="", help="another word, other pictures")
    given = parser.parse_args()
    started = time.time()
    torch.manual_seed(SEED)
    train = np.array(list(itertools.product(*map(range, SIZES))) * given.looks)
    images, factors = draw(train, f"reader train {given.stage}".strip(), given.varied, ends=0.5)
    labels = torch.from_numpy(train)
    print(f"{len(train)} images rendered in {time.time() - started:.0f} s", flush=True)
    network = ReaderNetwork()
    if given.start is not None:
        begin(network, given.start)
    fit(network, images, labels, factors, given.epochs, given.rate)
    reader = AttributeReader(network, {})
    reader.config.update(
        measure(reader),
        trained_on=len(train),
        seed=SEED,
        seconds=round(time.time() - started),
        epochs=given.epochs,
    )
    reader.save(given.out)
    print(reader.config)


def draw(attributes: np.ndarray, stage: str, varied: float = 0.8, ends: float = 0.0) -> tuple[Tensor, Tensor]:
    """Render each row (int ``[n, 4]``) with a seed of its own, a share with factors of their own, a share of these at `ends`.

    Returns
    -------
    uint8 ``[n, 3, 64, 64]``, and the factors, float32 ``[n, 7]``.
    """
    images, factors = [], []
    for n, row in enumerate(attributes):
        seed = seed_for(SEED, stage, "", str(n))
        rng = np.random.default_rng([seed, 2])
        drawn = draw_factors(rng) if rng.random() < varied else None
        if drawn is not None and rng.random() < ends:
            drawn = towards_ends(drawn, rng)
        factors.append(seeded_factors(seed) if drawn is None else drawn)
        images.append((to_tensor([render(Attributes(*row.tolist()), seed, drawn)]) * 255).byte())
    return torch.cat(images), torch.tensor(factors, dtype=torch.float32)


def towards_ends(factors: Factors, rng: np.random.Generator) -> Factors:
    """Return factors of which two in three lie in the outermost fifth of their side, as users' favourites do."""
    values = np.array(factors)
    moved = np.where(values < 0, -1.0, 1.0) * rng.uniform(0.8, 1, len(values))
    return Factors(*np.where(rng.random(len(values)) < 2 / 3, moved, values).tolist())


def begin(network: ReaderNetwork, weights: Path) -> None:
    """Take the weights of a reader that knew fewer outputs; those that it did not know stay as they are."""
    state, own = load_file(weights), network.state_dict()
    for name, values in state.items():
        own[name][tuple(slice(size) for size in values.shape)] = values.to(own[name].dtype)
    network.load_state_dict(own)


def fit(
    network: ReaderNetwork, images: Tensor, labels: Tensor, factors: Tensor, epochs: int, rate: float
) -> None:
    """Train `network` in place by four cross-entropies and the factors' mean squared error."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for epoch in range(epochs):
        network.train()
        total, order = 0.0, torch.randperm(len(images))
        for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            batch = images[rows].float() / 255
            batch[BATCH // 2 :] = degrade(batch[BATCH // 2 :])
            *parts, read = network(batch).split((*SIZES, len(FACTORS)), dim=1)
            loss = FACTOR_WEIGHT * functional.mse_loss(read, factors[rows])
            loss = loss + sum(functional.cross_entropy(p, labels[rows, a]) for a, p in enumerate(parts))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / (len(order) // BATCH):.4f}", flush=True)


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
    """Return accuracy and error on images that were not trained on, clean and degraded."""
    attributes = numpy_rng(SEED, "reader held out").integers(SIZES, size=(HELD_OUT, 4))
    found: dict = {"held_out": HELD_OUT}
    for name, varied, ends in (("plain", 0.0, 0.0), ("varied", 1.0, 0.0), ("ends", 1.0, 1.0)):
        images, factors = draw(attributes, "reader held out", varied, ends)
        clean = images.float() / 255
        for state, shown in (("", clean), ("_degraded", degrade(clean))):
            found[f"accuracy_{name}{state}"] = accuracy(reader, shown, attributes)
            found[f"error_{name}{state}"] = error(reader, shown, factors.numpy())
    return found


def error(reader: AttributeReader, images: Tensor, factors: np.ndarray) -> dict[str, float]:
    """Return each factor's root mean squared error."""
    off = np.sqrt(np.square(reader.factors(opened(images)) - factors).mean(axis=0))
    return {name: round(float(each), 4) for name, each in zip(FACTORS, off, strict=True)}


def opened(images: Tensor) -> list[Image.Image]:
    """Return float ``[n, 3, 64, 64]`` as images."""
    return [Image.fromarray((p * 255).byte().permute(1, 2, 0).numpy()) for p in images]


def accuracy(reader: AttributeReader, images: Tensor, attributes: np.ndarray) -> dict[str, float]:
    """Return the share of images read right, for each attribute."""
    right = (reader.read(opened(images)) == attributes).mean(axis=0)
    return {name: round(float(share), 4) for name, share in zip(NAMES, right, strict=True)}


if __name__ == "__main__":
    main()
