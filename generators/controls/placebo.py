"""placebo: the best by the reward of several noises under one prompt, which is the item's text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from generators.base import Untrained
from generators.common.sampling import Drawn, DrawsImages
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
        return (self._best(request, data, reward) for request in requests)

    def _best(self, request: Request, data: RunData, reward: Any) -> Drawn:
        prompt = data.texts[data.item_rows[request.item_id]]
        seeds = [
            seed_for(data.run_seed, f"placebo noise {noise}", request.user_id, request.item_id)
            for noise in range(self.config.noises)
        ]
        images = list(self.backbone.generate([Condition(seed, prompt) for seed in seeds], self.config.decode))
        users, items = [request.user_id] * len(images), [request.item_id] * len(images)
        best = int(reward.score(users, items, self.encoder.images(images)).argmax())
        return images[best], {"prompt": prompt, "noise": best, "noises": len(images)}
