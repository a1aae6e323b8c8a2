"""placebo: the best by the reward of several noises under one prompt, which is the item's text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from generators.base import Untrained
from generators.common.sampling import Drawn, DrawsImages
from generators.controls.settings import PlaceboSettings
from recgen.core.seeding import seed_for
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel

_PIXELS = 2**26
"""Pixels of images that are kept for an item's next user: 200 MB."""


@dataclass(frozen=True, eq=False)
class ItemImages:
    """What is selected from for one item: the prompt, its images and their raw embeddings, float32 ``[noises, D]``."""

    prompt: str
    images: Sequence[Image.Image]
    embeddings: np.ndarray

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return sum(image.width * image.height for image in self.images)


class Placebo(Untrained, DrawsImages):
    """Knows nothing of the user but which of its images the reward would rank highest.

    Within a request reward and judge agree on which noise is best, and users do not: what this gains is what selecting by a
    ranking model earns by itself, and a claim has to be net of it.

    All users of an item select among the same images. What selecting earns is expected to be the same as among images of their
    own, since an image that another user selects from either is drawn alike; and an item's images are drawn once.
    """

    name = "placebo"
    Config = PlaceboSettings
    config: PlaceboSettings

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._kept: OrderedDict[str, ItemImages] = OrderedDict()  # by item, those asked for last at the end

    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawn]:
        """Yield each request's image, which `reward` chooses."""
        assert reward is not None
        noises = self.config.noises
        for request in requests:
            found = self._images_of(request.item_id, data)
            scores = reward.score([request.user_id] * noises, [request.item_id] * noises, found.embeddings)
            best = int(scores.argmax())
            yield found.images[best], {"prompt": found.prompt, "noise": best, "noises": noises}

    def _images_of(self, item: str, data: RunData) -> ItemImages:
        """Return what there is to select from of an item, drawn where it is not kept.

        An item's images are a batch of their own, so that what was drawn before changes none of their bits.
        """
        if item not in self._kept:
            self._kept[item] = self._draw(item, data)
        self._kept.move_to_end(item)
        found = self._kept[item]
        while sum(each.pixels for each in self._kept.values()) > _PIXELS:
            self._kept.popitem(last=False)
        return found

    def _draw(self, item: str, data: RunData) -> ItemImages:
        prompt = data.texts[data.item_rows[item]]
        seeds = [
            seed_for(data.run_seed, f"placebo noise {noise}", item=item)
            for noise in range(self.config.noises)
        ]
        conditions = [Condition(seed, prompt) for seed in seeds]
        images = list(self.backbone.generate(conditions, self.config.decode))
        return ItemImages(prompt, images, self.encoder.images(images))
