"""Settings of the controls."""

from __future__ import annotations

from pydantic import Field

from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling


class Settings(GeneratorConfig):
    """Controls that show images of the catalogue, or none, have nothing to set."""

    families = frozenset()


class PlaceboSettings(GeneratorConfig):
    """What is drawn for the placebo."""

    noises: int = Field(
        8, ge=2, description="images drawn for a request, of which the reward's favourite is shown"
    )
    decode: Sampling = Sampling.model_validate({})
