"""Settings that several generators share; nothing here imports torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload

PLACE = "{text}"
QUICK_DECODE = {"steps": 6, "sampler": "dpm++2m", "guidance_scale": 3.0}
"""How images are sampled under ``recgen.preset: quick``."""
PAPER_DECODE = {"steps": 50, "sampler": "ddim", "guidance_scale": 7.5}
"""The same under ``recgen.preset: paper``: what the compared papers sample Stable Diffusion 1.5 with."""


WATCHED = 16
"""Images, at most, on which a group's curve is measured."""
MEASURED = 64
"""Held-out references measured together."""


def _has_place(template: str) -> str:
    if PLACE not in template:
        raise ValueError(f"a template with {PLACE} where the item's text goes")
    return template


Template = Annotated[str, AfterValidator(_has_place)]
"""A prompt with ``{text}`` in the place of the item's text; other braces are left as they are."""


class Refinement(GeneratorConfig):
    """How image conditions are moved uphill on a differentiable reward; see `generators.common.refinement`."""

    steps: int = Field(0, ge=0, description="Adam steps a request; 0 leaves conditions as they are")
    learn: int = Field(
        0,
        ge=0,
        description="pairs of a user and an item from which `fit` teaches a network to do the same in one pass; 0 for none",
    )
    last: int = Field(3, ge=1, description="K: denoising steps that gradients pass through")
    rate: float = Field(0.05, gt=0, description="Adam's step, as a share of the start's root mean square")
    content: float = Field(
        20.0, ge=0, description="weight of the hinge on likeness to the item's text falling below the start's"
    )


class PromptedConfig(GeneratorConfig):
    """Settings of generators that show the item by its text and learn nothing."""

    presets = {"quick": {"decode": QUICK_DECODE}, "paper": {"decode": PAPER_DECODE}}

    template: Template = PLACE
    negative_prompt: str = ""
    decode: Sampling = Sampling.model_validate({})


class GroupedConfig(GeneratorConfig):
    """Settings of generators that learn one style per group of users."""

    presets = {
        "quick": {"clusters": 4, "max_steps": 50, "decode": QUICK_DECODE},
        "paper": {"decode": PAPER_DECODE},
    }

    clusters: int | None = Field(
        8, ge=1, description="groups of users, by k-means on the mean embedding of what they liked"
    )
    negative_prompt: str = ""
    max_steps: int = Field(500, ge=1, description="optimiser steps for each group")
    images_per_step: int = Field(8, ge=1)
    decode: Sampling = Sampling.model_validate({})

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work of training every group for `max_steps`, and of one image a request."""
        groups = users if self.clusters is None else min(self.clusters, users)
        rows = groups * self.max_steps * self.images_per_step
        return Workload(
            Effort(trained=rows, encoded=rows / self.max_steps), super().workload(requests, users).draw
        )

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's rows, and those on which a group's curve is measured."""
        rows = self.images_per_step
        return Held(gradients=rows, measured=min(WATCHED, 2 * rows), encoded=True)


class TrainingConfig(GeneratorConfig):
    """Settings of a generator that learns from users' earlier likes."""

    presets = {
        "quick": {
            "learning_rate": 1.0e-3,
            "max_steps": 60,
            "evaluate_every": 20,
            "train_users": 200,
            "decode": QUICK_DECODE,
        },
        "paper": {"decode": PAPER_DECODE},
    }

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

    def learned(self, users: int) -> tuple[int, int, int]:
        """Return how many of `users` are held out, the optimiser's steps to be expected, and how many evaluations they have.

        Early stopping is expected some ten evaluations and `patience` after the start.
        """
        held = min(self.held_out_users, min(users, self.train_users + self.held_out_users) // 5)
        steps = min(self.max_steps, (10 + self.patience) * self.evaluate_every)
        return held, steps, steps // self.evaluate_every + 1

    def denoising(self, users: int) -> Effort:
        """Return the effort of training on the denoising loss of the references' images."""
        held, steps, evaluations = self.learned(users)
        references = min(users, self.train_users) * self.references_per_user + held
        return Effort(
            trained=steps * self.requests_per_step,
            evaluations=evaluations * held,
            encoded=references,
            steps=steps,
        )

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work of training on the denoising loss, and of one image a request."""
        return Workload(self.denoising(users), super().workload(requests, users).draw)

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's rows, and those of an evaluation."""
        held_out, _, _ = self.learned(sizes.users)
        return Held(gradients=self.requests_per_step, measured=min(MEASURED, held_out), encoded=True)


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

    def extractor_parameters(self, network: DiffusionNetwork, language: LanguageNetwork) -> float:
        """Return how many parameters of the preference extractor train: the LoRA on queries and values, and the mapper."""
        lora = language.layers * 2 * self.lora_rank * 2 * language.width
        layers = self.mapper_layers * (12 + 16) * self.mapper_width**2  # of an encoder and a decoder
        return lora + layers + (language.width + network.text_width) * self.mapper_width

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> LearningConfig:
        if self.mapper_width % self.heads:
            raise ValueError(f"mapper_width {self.mapper_width} must be a multiple of heads {self.heads}")
        return self
