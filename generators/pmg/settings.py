"""PMG's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from generators.common.settings import LearningConfig


class Settings(LearningConfig):
    """What PMG's block of the YAML accepts; the sizes of the preference extractor are RAGAR's.

    The weight of the preference against the target is chosen for each request out of `weights`: every one costs an image.
    """

    needs = frozenset({"keywords"})

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
