"""stable_diffusion: the item's text as prompt, the same for every user but for the noise; openjourney: a fine-tuned one.

What a text-to-image model makes of an item when nobody tells it whom the image is for. Any Stable-Diffusion checkpoint goes:
the run's backbone, or another one that `checkpoint` names, so that one run can compare several.
"""

from __future__ import annotations

from generators.common.prompted import Prompted
from generators.common.sampling import Drawing
from generators.stable_diffusion.settings import OpenjourneySettings, Settings
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition


class StableDiffusion(Prompted):
    """Draws the item's text, without an image condition."""

    name = "stable_diffusion"
    Config = Settings
    config: Settings

    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return the prompt alone; the history is not read."""
        prompt = self.prompt(request, data)
        return Condition(request.seed, prompt, self.config.negative_prompt), {"prompt": prompt}


class Openjourney(StableDiffusion):
    """Stable Diffusion 1.5 fine-tuned on images of Midjourney, a baseline of I-AM-G."""

    name = "openjourney"
    Config = OpenjourneySettings
