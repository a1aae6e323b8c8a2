"""Settings of the controls."""

from __future__ import annotations

from pydantic import Field

from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling
from recgen.planning.workload import Workload


class Settings(GeneratorConfig):
    """Controls that show images of the catalogue, or none, have nothing to set."""

    families = frozenset()


class PlaceboSettings(GeneratorConfig):
    """What is drawn for the placebo."""

    noises: int = Field(
        8, ge=2, description="images drawn for a request, of which the reward's favourite is shown"
    )
    decode: Sampling = Sampling.model_validate({})

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work of `noises` images a request."""
        return Workload(draw=self.noises * super().workload(requests, users).draw)
