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
        8, ge=2, description="images drawn of an item, of which a user is shown the reward's favourite"
    )
    decode: Sampling = Sampling.model_validate({})

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work of `noises` images a request: the most that it can be, where no two requests are of one item."""
        return Workload(draw=self.noises * super().workload(requests, users).draw)
