"""placebo: the best by the reward of several noises under one prompt, which is the item's text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from generators.base import Untrained
from generators.common.candidates import draw_candidates
from generators.common.sampling import Drawing, Drawn, DrawsImages
from generators.controls.settings import PlaceboSettings
from recgen.core.seeding import seed_for
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel


class Placebo(Untrained, DrawsImages):
    """Knows nothing of the user but which of its images the reward would rank highest.

    Within a request reward and judge agree on which noise is best, and users do not: what this gains is what selecting by a
    ranking model earns by itself, and a claim has to be net of it.
    """

    name = "placebo"
    Config = PlaceboSettings
    config: PlaceboSettings

    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawn]:
        """Yield each request's image, which `reward` chooses."""
        noises = [
            [self._noise(request, each, data) for each in range(self.config.noises)] for request in requests
        ]
        for found in draw_candidates(self, requests, noises, reward, self.config.decode):
            best = found.best()
            yield found.images[best], found.recipes[best]

    def _noise(self, request: Request, noise: int, data: RunData) -> Drawing:
        prompt = data.texts[data.item_rows[request.item_id]]
        seed = seed_for(data.run_seed, f"placebo noise {noise}", request.user_id, request.item_id)
        return Condition(seed, prompt), {"prompt": prompt, "noise": noise, "noises": self.config.noises}
