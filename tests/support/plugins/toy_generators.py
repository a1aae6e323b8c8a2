"""Two small generators for the host's tests, installed as another package's would be: by entry point."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from generators.base import Generator, GeneratorConfig, Progress, silent
from recgen.data.types import Creative, Request, RunData


class ToyConfig(GeneratorConfig):
    """One number for drawing, one for fitting, and how many seconds an image takes more."""

    sampling_fields = frozenset({"strength", "pause"})

    strength: float = Field(0.5, ge=0, le=1)
    brightness: float = 0.0
    pause: float = Field(0.0, ge=0)


class Toy(Generator):
    """Mixes the item's image with noise of the request's own, towards the mean colour of all liked images."""

    name = "toy"
    Config = ToyConfig
    mean: list[float]

    def fit(self, data: RunData, reward: Any = None, judge: Any = None, progress: Progress = silent) -> None:
        """Learn the mean colour."""
        liked = data.interactions.loc[data.interactions["like"], "item"].unique()
        images = [self._pixels(path) for row in liked if (path := data.images[row]) is not None]
        self.mean = (np.mean(images, axis=(0, 1, 2)) + self.config.brightness).tolist()
        self.curves = {"loss": [(0, 1.0), (1, 0.5)]}

    def generate(
        self, requests: Sequence[Request], data: RunData, reward: Any = None, progress: Progress = silent
    ) -> Iterator[Creative]:
        """Draw."""
        for request in requests:
            time.sleep(self.config.pause)
            path = data.images[data.item_rows[request.item_id]]
            own = self._pixels(path) if path is not None else np.zeros((32, 32, 3))
            noise = np.random.default_rng(request.seed).uniform(-40, 40, own.shape)
            mixed = (1 - self.config.strength) * own + self.config.strength * np.array(self.mean) + noise
            image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
            yield Creative(request, self.name, image, {"strength": self.config.strength}, seconds=0.01)

    def _pixels(self, path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("RGB").resize((32, 32)), dtype=float)

    def save(self, folder: Path) -> None:
        """Write the mean colour."""
        (folder / "mean.json").write_text(json.dumps(self.mean))

    def load(self, folder: Path) -> None:
        """Read the mean colour."""
        self.mean = json.loads((folder / "mean.json").read_text())


class Other(Toy):
    """The same under another name."""

    name = "other"


class WordyConfig(ToyConfig):
    """The same, with words asked for."""

    needs = frozenset({"keywords"})


class Wordy(Toy):
    """The same, by a method that asks for keywords and a language model; it keeps what it was given."""

    name = "wordy"
    Config = WordyConfig

    def fit(self, data: RunData, reward: Any = None, judge: Any = None, progress: Progress = silent) -> None:
        """Learn the mean colour, and look at the words."""
        super().fit(data, reward, judge, progress)
        assert self.language_model is not None and data.caption_features is not None
        self.seen = {
            "captions": data.captions,
            "keywords": data.keywords,
            "features": data.caption_features.shape,
            "without": int(np.isnan(data.caption_features).any(axis=1).sum()),
            "llm": self.language_model.name,
        }

    def save(self, folder: Path) -> None:
        """Write the mean colour and what was seen."""
        super().save(folder)
        (folder / "seen.json").write_text(json.dumps(self.seen))


class FaultyConfig(ToyConfig):
    """What to do wrong."""

    fault: Literal[
        "none",
        "init",
        "fit",
        "save",
        "load",
        "raise",
        "few",
        "many",
        "endless",
        "type",
        "image",
        "order",
        "recipe",
        "none at all",
    ] = "none"


class Faulty(Toy):
    """The same, with one mistake that a plugin's author can make."""

    name = "faulty"
    Config = FaultyConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._fail("init")

    def _fail(self, method: str) -> None:
        if self.config.fault == method:
            raise KeyError(f"lost in {method}")

    def fit(self, data: RunData, reward: Any = None, judge: Any = None, progress: Progress = silent) -> None:
        """Fit, or fail."""
        self._fail("fit")
        super().fit(data, reward, judge, progress)

    def save(self, folder: Path) -> None:
        """Save, or fail."""
        self._fail("save")
        super().save(folder)

    def load(self, folder: Path) -> None:
        """Load, or fail."""
        self._fail("load")
        super().load(folder)

    def generate(
        self, requests: Sequence[Request], data: RunData, reward: Any = None, progress: Progress = silent
    ) -> Any:
        """Draw, and do one thing wrong."""
        if self.config.fault == "none at all":
            return None
        return self._wrong(list(super().generate(requests, data, reward, progress)))

    def _wrong(self, right: list[Creative]) -> Iterator[Any]:
        first, fault = right[0], self.config.fault
        changes: dict[str, list[Any]] = {
            "few": right[:-1],
            "many": [*right, first],
            "type": [first.image, *right[1:]],
            "image": [Creative(first.request, self.name, np.zeros((4, 4, 3)), {}), *right[1:]],  # type: ignore[arg-type]
            "order": right[::-1],
            "recipe": [Creative(first.request, self.name, first.image, {"path": Path("a")}), *right[1:]],
        }
        yield from changes.get(fault, right)
        while fault == "endless":
            yield first
        self._fail("raise")
