"""Which eyes tell garments apart: the ten nearest pictures of a picture, and how many of them are of its category.

    python -m experiments.photos.retrieval FOLDER     # items.csv (item_id, category) and images.zip: ../shared/data/clothing

Pictures are drawn by a seed, and each looks for its neighbours among the others, by cosine. Beside the network of the extra
`photos` and `demo-clip` stand two that know nothing: eight by eight pixels, and the photos' features dealt out to other pictures.
Intervals are percentile bootstraps over pictures; the difference from demo-clip is paired.
"""

from __future__ import annotations

import argparse
import csv
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.features import efficientnet
from recgen.features.encoders import load_encoder

PICTURES, CUTOFF, DRAWS, EDGE = 1_000, 10, 10_000, 8


def read(folder: Path) -> tuple[list[Image.Image], np.ndarray]:
    """Return the pictures drawn and the number of each one's category."""
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = numpy_rng(0, "photos retrieval").permutation(len(rows))[:PICTURES]
    images = []
    with zipfile.ZipFile(folder / "images.zip") as archive:
        names = {Path(name).stem: name for name in archive.namelist()}
        for row in drawn:
            with archive.open(names[rows[row]["item_id"]]) as file:
                images.append(Image.open(file).convert("RGB"))
    return images, np.unique([rows[row]["category"] for row in drawn], return_inverse=True)[1]


def features(images: list[Image.Image]) -> dict[str, np.ndarray]:
    """Return what each pair of eyes makes of the pictures, ``[n, D]``."""
    seen = efficientnet.load("cpu", "photos").images(images)
    small = np.stack([np.asarray(image.resize((EDGE, EDGE)), np.float32).ravel() for image in images])
    dealt = seen[numpy_rng(0, "photos dealt").permutation(len(seen))]
    return {
        "efficientnet-lite0": seen,
        "demo-clip": load_encoder("demo-clip").images(images),
        "8 x 8 pixels": small - small.mean(0),
        "efficientnet-lite0, dealt out": dealt,
    }


def alike(vectors: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Return how many of each picture's nearest others are of its category, int ``[n]``."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    found = np.argpartition(-near, CUTOFF, axis=1)[:, :CUTOFF]
    return (categories[found] == categories[:, None]).sum(1)


def interval(values: np.ndarray) -> dict[str, float]:
    """Return a mean with its bootstrap interval."""
    rng = numpy_rng(0, "photos bootstrap")
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": round(float(values.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


def main() -> None:
    """Measure all eyes on a folder's pictures and write the result."""
    parser = argparse.ArgumentParser(description="same-category retrieval of photographs")
    parser.add_argument("folder", type=Path)
    images, categories = read(parser.parse_args().folder)
    counts = {name: alike(vectors, categories) for name, vectors in features(images).items()}
    found = {
        name: {"precision@10": interval(count / CUTOFF), "one or more of ten": interval((count > 0) * 1.0)}
        for name, count in counts.items()
    }
    difference = (counts["efficientnet-lite0"] - counts["demo-clip"]) / CUTOFF
    sizes = sorted(Counter(categories.tolist()).values(), reverse=True)
    facts = {
        "pictures": len(images),
        "categories": sizes,
        "precision@10 over demo-clip": interval(difference),
    }
    write_json(Path(__file__).with_name("retrieval.json"), {**facts, **found})


if __name__ == "__main__":
    main()
