"""A generator that renders what its user truly likes, for tests of the market: it is told what no other generator may know."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from generators.base import Generator, GeneratorConfig, silent
from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.renderer import render
from recgen.data.simulation.simulator import Truth
from recgen.data.types import Creative


class IdealConfig(GeneratorConfig):
    truth: str
    record: str  # a file that gets a line for each image
    accuracy: float = 1.0
    wrong: float = 0.0  # share of the images that show another motif


class Ideal(Generator):
    """The item's motif, but for `wrong` of the images, in the user's best style: each of it with the probability `accuracy`."""

    name = "ideal"
    Config = IdealConfig

    def fit(self, data, reward=None, judge=None, progress=silent):
        pass

    def generate(self, requests, data, reward=None, progress=silent):
        truth = Truth.load(Path(self.config.truth))
        styles = np.stack(np.meshgrid(*(np.arange(size) for size in SIZES[1:]), indexing="ij"), -1).reshape(
            -1, 3
        )
        for request in requests:
            rng = numpy_rng(request.seed, "ideal")
            motif = int(truth.attributes_of([request.item_id])[0, 0])
            looks = np.column_stack([np.full(len(styles), motif), styles])
            best = looks[truth.utility([request.user_id] * len(looks), looks).argmax()]
            drawn = np.where(rng.random(4) < self.config.accuracy, best, rng.integers(SIZES))
            drawn[0] = (motif + 1) % SIZES[0] if rng.random() < self.config.wrong else motif
            with Path(self.config.record).open("a") as file:
                file.write(f"{request.user_id} {request.item_id}\n")
            yield Creative(
                request, self.name, render(Attributes(*drawn.tolist()), request.seed), {"ideal": True}
            )

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder):
        pass
