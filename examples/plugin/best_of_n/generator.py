"""Draws every request several times and keeps what the reward scores highest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from best_of_n.settings import Settings
from generators.base import Progress, silent
from generators.common.candidates import candidate_seeds, draw_best
from generators.common.prompted import Prompted, fill
from generators.common.sampling import Drawing
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.conditions import Condition


class BestOfN(Prompted):
    """Learns nothing itself: the reward, which has learned from the log, chooses."""

    name = "best_of_n"
    Config = Settings
    config: Settings

    def drawings(self, request: Request, data: RunData) -> list[Drawing]:
        """Return a condition for every prompt and noise of a request."""
        text = data.texts[data.item_rows[request.item_id]]
        prompts = [
            fill(template, text) for template in self.config.templates for _ in range(self.config.noises)
        ]
        seeds = candidate_seeds(request, len(prompts))
        return [
            (Condition(seed, prompt, self.config.negative_prompt), {"prompt": prompt})
            for seed, prompt in zip(seeds, prompts, strict=True)
        ]

    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return the first of them, which is drawn without a reward."""
        return self.drawings(request, data)[0]

    def generate(
        self, requests: Sequence[Request], data: RunData, reward: Any = None, progress: Progress = silent
    ) -> Iterator[Creative]:
        """Yield the best creative of each request, in order; its recipe has everybody's scores."""
        tried = [
            self.drawings(request, data) if reward else [self.drawing(request, data)] for request in requests
        ]
        yield from draw_best(self, requests, tried, reward, self.config.decode, progress)
