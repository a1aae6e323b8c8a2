"""stable_diffusion: the item's text as prompt, the same for every user but for the noise.

What a text-to-image model makes of an item when nobody tells it whom the picture is for. Any Stable-Diffusion checkpoint goes, a
fine-tuned one such as Openjourney too: it is the run's backbone.
"""

from __future__ import annotations

from generators.drawing import Drawing
from generators.prompted import Prompted, PromptedConfig
from recgen.diffusion import Condition
from recgen.records import Request, RunData


class Settings(PromptedConfig):
    """What stable_diffusion's block of the YAML accepts."""


class StableDiffusion(Prompted):
    """Draws the item's text, without an image condition."""

    name = "stable_diffusion"
    Config = Settings
    config: Settings

    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return the prompt alone; the history is not read."""
        prompt = self.prompt(request, data)
        return Condition(request.seed, prompt, self.config.negative_prompt), {"prompt": prompt}
