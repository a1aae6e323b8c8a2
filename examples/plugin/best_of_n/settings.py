"""Settings of best_of_n; nothing here imports torch."""

from __future__ import annotations

from pydantic import Field

from generators.common.settings import PLACE, PromptedConfig, Template


class Settings(PromptedConfig):
    """What best_of_n's block of the YAML accepts; each request costs ``len(templates) * noises`` images."""

    sampling_fields = frozenset({"templates", "noises", "negative_prompt", "decode", "template"})

    templates: tuple[Template, ...] = Field(
        (PLACE, f"{PLACE}, in bright colours", f"{PLACE}, in dark colours"),
        min_length=1,
        description="prompts to try, each with {text} where the item's text goes",
    )
    noises: int = Field(1, ge=1, description="images to try from each prompt")
