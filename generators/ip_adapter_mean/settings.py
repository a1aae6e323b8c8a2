"""Settings of ip_adapter_mean."""

from __future__ import annotations

from typing import Literal

from generators.common.settings import PromptedConfig
from recgen.diffusion.profiles import ImageUse


class Settings(PromptedConfig):
    """What ip_adapter_mean's block of the YAML accepts; ``decode.ip_adapter_scale`` weighs the history against the text."""

    prompt: Literal["text", "none"] = "text"

    def requires_ip_adapter(self) -> bool:
        """Return True: the history is shown as an image, whatever the prompt."""
        return True

    def image_use(self) -> ImageUse:
        """Return whether the history's image stands beside the item's text or alone."""
        return "beside text" if self.prompt == "text" else "alone"
