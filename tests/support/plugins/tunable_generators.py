"""A generator with the settings that studies try, for their tests; it can fail, and it can be held in the middle of its work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from toy_generators import Toy, ToyConfig

from generators.base import Progress, silent
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.backbone import Sampling


class TunableConfig(ToyConfig):
    """The usual names: `k` and `alpha` belong to fitting, the scale of guidance to drawing."""

    sampling_fields = frozenset({"strength", "decode"})

    k: int = Field(5, ge=0, le=7)
    alpha: float = Field(0.5, ge=0, le=1)
    mood: Literal["good", "bad"] = "good"
    decode: Sampling = Sampling.model_validate({})


class Tunable(Toy):
    """Stronger with more guidance, brighter with more k."""

    name = "tunable"
    Config = TunableConfig

    def fit(self, data: RunData, reward: Any = None, judge: Any = None, progress: Progress = silent) -> None:
        """Learn the mean colour, or fail in a bad mood."""
        if self.config.mood == "bad":
            raise RuntimeError("nothing can be learned in this mood")
        super().fit(data, reward, judge, progress)
        self.mean = [value + 10 * self.config.k for value in self.mean]

    def generate(
        self, requests: Sequence[Request], data: RunData, reward: Any = None, progress: Progress = silent
    ) -> Iterator[Creative]:
        """Draw, but not while the file that TUNABLE_GATE names is there."""
        gate = os.environ.get("TUNABLE_GATE")
        while gate and Path(gate).exists():
            time.sleep(0.02)
        strength = min(1.0, self.config.decode.guidance_scale / 12)
        self.config = self.config.model_copy(update={"strength": strength})
        yield from super().generate(requests, data, progress)
