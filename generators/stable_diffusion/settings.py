"""Settings of stable_diffusion and openjourney."""

from __future__ import annotations

from pydantic import Field

from generators.common.settings import PLACE, PromptedConfig, Template


class Settings(PromptedConfig):
    """What stable_diffusion's block of the YAML accepts."""

    checkpoint: str | None = Field(
        None, description="a diffusers folder or hub id instead of the run's backbone"
    )


class OpenjourneySettings(Settings):
    """Defaults of openjourney: the published checkpoint and the words it was fine-tuned with."""

    checkpoint: str | None = "prompthero/openjourney"
    template: Template = f"mdjrny-v4 style {PLACE}"
