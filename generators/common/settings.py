"""Settings that several generators share; nothing here imports torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling

PLACE = "{text}"


def _has_place(template: str) -> str:
    if PLACE not in template:
        raise ValueError(f"a template with {PLACE} where the item's text goes")
    return template


Template = Annotated[str, AfterValidator(_has_place)]
"""A prompt with ``{text}`` in the place of the item's text; other braces are left as they are."""


class PromptedConfig(GeneratorConfig):
    """Settings of generators that show the item by its text and learn nothing."""

    template: Template = PLACE
    negative_prompt: str = ""
    decode: Sampling = Sampling.model_validate({})


class GroupedConfig(GeneratorConfig):
    """Settings of generators that learn one style per group of users."""

    clusters: int | None = Field(
        8, ge=1, description="groups of users, by k-means on the mean embedding of what they liked"
    )
    negative_prompt: str = ""
    max_steps: int = Field(500, ge=1, description="optimiser steps for each group")
    images_per_step: int = Field(8, ge=1)
    decode: Sampling = Sampling.model_validate({})


class TrainingConfig(GeneratorConfig):
    """Settings of a generator that learns from users' earlier likes."""

    requests_per_step: int = Field(16, ge=1)
    max_steps: int = Field(1000, ge=1)
    evaluate_every: int = Field(10, ge=1)
    patience: int = Field(
        5, ge=1, description="evaluations of the held-out users without a better one before training stops"
    )
    train_users: int = Field(
        512, ge=1, description="users learned from, at most; users drawn by the run's seed"
    )
    held_out_users: int = Field(32, ge=1, description="users who decide when to stop; never learned from")
    references_per_user: int = Field(
        4, ge=1, description="latest likes of a user that serve as references in training"
    )
    min_history: int = Field(3, ge=1, description="likes a training reference must have before it")
    decode: Sampling = Sampling.model_validate({})


class LearningConfig(TrainingConfig):
    """Settings of a generator that trains the preference extractor on users' earlier likes."""

    keywords: int = Field(
        8, ge=0, description="n of w': the user's most frequent keywords that the language model reads"
    )
    min_keyword_count: int = Field(
        2, ge=1, description="history items that must have a keyword before it counts"
    )
    image_tokens: int = Field(4, ge=1, description="L, tokens added to the language model's vocabulary")
    lora_rank: int = Field(8, ge=1)
    mapper_layers: int = Field(4, ge=1)
    mapper_width: int = Field(64, ge=4)
    mapper_queries: int = Field(4, ge=1, description="soft preference embeddings that the mapper makes")
    heads: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> LearningConfig:
        if self.mapper_width % self.heads:
            raise ValueError(f"mapper_width {self.mapper_width} must be a multiple of heads {self.heads}")
        return self
