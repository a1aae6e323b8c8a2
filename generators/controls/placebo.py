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
        """Yield each request's image, which `reward` chooses; as many requests are drawn at once as a batch has room for."""
        together = max(self.config.decode.batch_size // self.config.noises, 1)
        for start in range(0, len(requests), together):
            yield from self._best(requests[start : start + together], data, reward)

    def _best(self, requests: Sequence[Request], data: RunData, reward: Any) -> Iterator[Drawn]:
        noises = self.config.noises
        every = [(request, noise) for request in requests for noise in range(noises)]
        users, items = ([getattr(request, of) for request, _ in every] for of in ("user_id", "item_id"))
        prompts = [data.texts[data.item_rows[item]] for item in items]
        seeds = [
            seed_for(data.run_seed, f"placebo noise {noise}", request.user_id, request.item_id)
            for request, noise in every
        ]
        images = list(self.backbone.generate(list(map(Condition, seeds, prompts)), self.config.decode))
        scores = reward.score(users, items, self.encoder.images(images)).reshape(-1, noises)
        for first, best in zip(range(0, len(every), noises), scores.argmax(1).tolist(), strict=True):
            yield images[first + best], {"prompt": prompts[first], "noise": best, "noises": noises}
