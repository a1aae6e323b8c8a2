"""placebo: the best by the reward of several noises under one prompt, which is the item's text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from generators.base import Generator, Progress, silent
from generators.common.sampling import finish
from generators.controls.settings import PlaceboSettings
from recgen.core.seeding import seed_for
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.conditions import Condition


class Placebo(Generator):
    """Knows nothing of the user but which of its images the reward would rank highest.

    Within a request reward and judge agree on which noise is best, and users do not: what this gains is what selecting by a
    ranking model earns by itself, and a claim has to be net of it.
    """

    name = "placebo"
    Config = PlaceboSettings
    config: PlaceboSettings

    def fit(self, data: RunData, reward: Any = None, judge: Any = None, progress: Progress = silent) -> None:
        """Learn nothing."""

    def save(self, folder: Path) -> None:
        """Write nothing but the empty `folder`."""
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder: Path) -> None:
        """Restore nothing."""

    def generate(
        self, requests: Sequence[Request], data: RunData, reward: Any = None, progress: Progress = silent
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order; `reward` chooses it."""
        drawn = (self._best(request, data, reward) for request in requests)
        yield from finish(self, requests, drawn, self.config.decode, progress)

    def _best(self, request: Request, data: RunData, reward: Any) -> tuple[Image.Image, dict[str, Any]]:
        prompt = data.texts[data.item_rows[request.item_id]]
        seeds = [
            seed_for(data.run_seed, f"placebo noise {noise}", request.user_id, request.item_id)
            for noise in range(self.config.noises)
        ]
        images = list(self.backbone.generate([Condition(seed, prompt) for seed in seeds], self.config.decode))
        users, items = [request.user_id] * len(images), [request.item_id] * len(images)
        best = int(reward.score(users, items, self.encoder.images(images)).argmax())
        return images[best], {"prompt": prompt, "noise": best, "noises": len(images)}
