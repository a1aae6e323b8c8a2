"""stable_diffusion and openjourney: the item's text as prompt, the same for every user but for the noise."""

from typing import TYPE_CHECKING

from generators.stable_diffusion.settings import OpenjourneySettings, Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.stable_diffusion.generator import Openjourney, StableDiffusion

__all__ = ["Openjourney", "OpenjourneySettings", "Settings", "StableDiffusion"]

__getattr__ = exports(__name__, StableDiffusion="generator", Openjourney="generator")
