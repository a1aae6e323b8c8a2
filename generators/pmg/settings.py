"""PMG's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from generators.common.settings import PAPER_DECODE, LearningConfig
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload


class Settings(LearningConfig):
    """What PMG's block of the YAML accepts; the sizes of the preference extractor are RAGAR's.

    The weight of the preference against the target is chosen for each request out of `weights`: every one costs an image.
    """

    needs = frozenset({"keywords"})
    presets = {
        **LearningConfig.presets,
        "paper": {"learning_rate": 1.0e-5, "decode": PAPER_DECODE},  # RAGAR, section 5.1
    }

    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.25, 0.5, 0.75),
        min_length=1,
        description="weights w of the preference to try; the target's is 1 - w",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="how much the preference counts in the choice against the target"
    )
    preference: Literal["keywords", "history"] = Field(
        "keywords",
        description="what an image is compared with: the user's keywords, or the mean of the liked images",
    )

    learning_rate: float = Field(1e-4, gt=0)
    evaluate_every: int = Field(20, ge=1)

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work: the language model reads every example, and every weight costs an image."""
        work, (held, steps, evaluations) = super().workload(requests, users), self.learned(users)
        texts = 3 * steps * self.requests_per_step + evaluations * held
        draw = len(self.weights) * work.draw + Effort(texts=requests)
        return Workload(work.fit + Effort(texts=texts), draw)

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's rows, each of which the language model reads too."""
        trained, rows = self.extractor_parameters(network, language), self.requests_per_step
        return replace(super().held(sizes, network, language), trained=trained, read=rows)
