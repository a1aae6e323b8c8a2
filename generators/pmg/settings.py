"""PMG's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from generators.base import GeneratorConfig
from recgen.diffusion import Sampling


class Settings(GeneratorConfig):
    """What PMG's block of the YAML accepts; the sizes of the preference extractor are RAGAR's.

    The weight of the preference against the target is chosen for each request out of `weights`: every one costs a picture.
    """

    keywords: int = Field(8, ge=0, description="most frequent keywords of the history that the language model reads")
    min_keyword_count: int = Field(2, ge=1, description="history items that must have a keyword before it counts")
    image_tokens: int = Field(4, ge=1, description="multimodal tokens added to the language model's vocabulary")
    lora_rank: int = Field(8, ge=1)
    mapper_layers: int = Field(4, ge=1)
    mapper_width: int = Field(64, ge=4)
    mapper_queries: int = Field(4, ge=1, description="soft preference embeddings")
    heads: int = Field(4, ge=1)

    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.25, 0.5, 0.75), min_length=1, description="weights w of the preference to try; the target's is 1 - w"
    )
    alpha: float = Field(0.5, ge=0, le=1, description="how much the preference counts in the choice against the target")
    preference: Literal["keywords", "history"] = Field(
        "keywords", description="what a picture is compared with: the user's keywords, or the mean of the liked pictures"
    )

    learning_rate: float = Field(1e-4, gt=0)
    requests_per_step: int = Field(16, ge=1)
    max_steps: int = Field(1000, ge=1)
    evaluate_every: int = Field(20, ge=1)
    patience: int = Field(5, ge=1, description="evaluations without a better held-out loss before training stops")
    train_users: int = Field(512, ge=1, description="users learned from, at most; users drawn by the run's seed")
    held_out_users: int = Field(32, ge=1, description="users whose loss decides when to stop; never learned from")
    references_per_user: int = Field(4, ge=1, description="latest likes of a user that serve as references in training")
    min_history: int = Field(3, ge=1, description="likes a training reference must have before it")
    decode: Sampling = Sampling.model_validate({})

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.mapper_width % self.heads:
            raise ValueError(f"mapper_width {self.mapper_width} must be a multiple of heads {self.heads}")
        return self
