"""Settings of textual_inversion."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from generators.common.settings import PLACE, GroupedConfig, Template

STYLE = "{style}"


def _has_words(words: str) -> str:
    if not words.strip():
        raise ValueError("one word or more")
    return words


def _has_style(template: str) -> str:
    if template.count(STYLE) != 1:
        raise ValueError(f"a template with one {STYLE} where the learned words go")
    return template


class Settings(GroupedConfig):
    """What textual_inversion's block of the YAML accepts. ``clusters: null`` learns words for every user."""

    sampling_fields = frozenset({"negative_prompt", "decode"})
    families = frozenset({"stable-diffusion"})  # XL reads two encoders' words, and a pooled embedding of them

    template: Annotated[Template, AfterValidator(_has_style)] = f"{PLACE}, in the style of {STYLE}"
    vectors: int = Field(
        4, ge=1, description="learned vectors per group, side by side where the template says {style}"
    )
    initial: Annotated[str, AfterValidator(_has_words)] = Field(
        "style", description="words whose mean vector the learned ones start from"
    )
    learning_rate: float = Field(
        5e-3,
        gt=0,
        description="AdamW's; the published one is 5e-4 with 5,000 steps and more, `max_steps` here is 500",
    )
