"""What the experiments on `taste` compare: the method, what it has to beat, and placebos of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from generators.common.ridge import centred
from generators.ip_adapter_mean import IPAdapterMean
from generators.ip_adapter_mean import Settings as MeanSettings
from generators.taste import Settings, Taste
from generators.taste.asked import NOTHING, Asked, Sources
from generators.taste.kept import Strength
from generators.taste.shown import Answer
from generators.taste.trust import OWN_LIKES
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import reward_model

DECODE = Sampling(steps=6, sampler="dpm++2m", guidance_scale=3)
FIXED = {"both": Strength(3, 0.25, 3.0), "words": Strength(3, 0.0, 3.0), "image": Strength(0, 0.75, 3.0)}
"""The strengths of all arms but `kept` where tastes are in words, chosen on seed 900 by `choose`."""
FIXED_FACTORS = {**FIXED, "both": Strength(3, 0.75, 3.0)}
"""The same where tastes are in factors, chosen on seed 900 by `choose`."""
PSEUDO_COUNTS = 10
KEEP = 0.85
Arm = Callable[[], list[Image.Image]]


class ContrastSources(Sources):
    """Users' own likes by their contrast, the mean embedding of likes less that of dislikes, with pseudo-counts."""

    def likes(self, users: Sequence[int], without: Sequence[int] | None = None) -> np.ndarray:
        """Return the contrast's scores of the catalogue, float32 ``[B, N]``, centred; no request is of an item its user met."""
        images = self.catalogue.images - self.basis.mean
        rows = [contrast(self.data, self.basis.mean, *self.met.get(user, NOTHING)) for user in users]
        return centred(np.stack(rows) @ images.T).astype(np.float32)


def contrast(data: RunData, mean: np.ndarray, items: np.ndarray, likes: np.ndarray) -> np.ndarray:
    """Return the mean embedding of the liked items less that of the others, each with pseudo-counts at `mean`, ``[D]``."""
    found = np.zeros(len(mean))
    for sign, kept in ((1, likes), (-1, ~likes)):
        rows = data.image_features[items[kept]].astype(np.float64) - mean
        found += sign * rows.sum(axis=0) / (len(rows) + PSEUDO_COUNTS)
    return found


class Arms:
    """The arms of one run; generators are fitted when an arm first needs them.

    Parameters
    ----------
    run
        A run with its ranking models.
    requests
        The requests that every arm draws.
    fixed
        The strengths by what is shown.
    """

    def __init__(
        self,
        run: RunContext,
        requests: Sequence[Request],
        fixed: dict[str, Strength] = FIXED,
    ) -> None:
        self.fixed = fixed
        self.run, self.requests = run, list(requests)
        self.reward = reward_model(run, "reward")
        self._fitted: dict[str, Taste] = {}
        self._kept: dict[str, Taste] = {}

    def taste(self, show: str) -> Taste:
        """Return taste fitted under the fixed strength, once."""
        if show not in self._fitted:
            self._fitted[show] = fit(self.run, self.run.data, self.reward, show)
        return self._fitted[show]

    def learned(self) -> dict[str, Any]:
        """Return what the tastes that were fitted believe, and the strengths they chose."""
        return {
            name: {
                "trust": taste.learned.belief.trust.as_json(),
                "strength": taste.learned.strength.as_json(),
                "text_kept": taste.learned.text_kept,
                "tried": [each.as_json() for each in taste.learned.tried],
            }
            for name, taste in {**self._fitted, **self._kept}.items()
        }

    def text(self) -> list[Image.Image]:
        """The item's text alone."""
        data = self.run.data
        prompts = [data.texts[data.item_rows[request.item_id]] for request in self.requests]
        conditions = [Condition(r.seed, text) for r, text in zip(self.requests, prompts, strict=True)]
        return list(self.run.models.backbone.generate(conditions, DECODE))

    def ip_adapter_mean(self) -> list[Image.Image]:
        """The mean image of the history through IP-Adapter."""
        generator = IPAdapterMean(
            MeanSettings(decode=DECODE), self.run.models.backbone, self.run.models.encoder
        )
        return [creative.image for creative in generator.generate(self.requests, self.run.data)]

    def contrast_shown(self) -> list[Image.Image]:
        """The contrast's scores of the catalogue in the place of taste's, everything after them the same, at taste's strength."""
        taste = copy(self.taste("both"))
        whole = self._sources(taste)
        belief = replace(taste.learned.belief, trust=OWN_LIKES)
        only = ContrastSources(whole.data, whole.catalogue, None, whole.basis, whole.population, whole.met)
        taste._asked = Asked(only, belief)
        return draw(
            taste,
            self.requests,
            taste.answers(self.requests, self.run.data),
            self.run.data,
            self.fixed["both"],
        )

    def without_reward(self) -> list[Image.Image]:
        """Taste that asks no recommender: the users' own likes alone."""
        taste = fit(self.run, self.run.data, None, "both")
        answers = taste.answers(self.requests, self.run.data)
        return draw(taste, self.requests, answers, self.run.data, self.fixed["both"])

    def _sources(self, taste: Taste) -> Sources:
        assert taste._asked is not None
        return taste._asked.sources

    def shown(self, show: str) -> list[Image.Image]:
        """Taste."""
        return self.answered(show, self.requests)

    def answered(self, show: str, asked: Sequence[Request]) -> list[Image.Image]:
        """Taste, with the answers to other requests."""
        taste, data = self.taste(show), self.run.data
        answers = taste.answers(asked, data, self.reward)
        return draw(taste, self.requests, answers, data, self.fixed[show])

    def kept(self) -> list[Image.Image]:
        """Taste with the strength that its own `fit` chooses under ``keep: 0.85``."""
        taste = self._kept["kept"] = fit(self.run, self.run.data, self.reward, "both", keep=KEEP)
        answers = taste.answers(self.requests, self.run.data, self.reward)
        return draw(taste, self.requests, answers, self.run.data, taste.learned.strength)

    def best_of(self, count: int, keep: float | None = None) -> list[Image.Image]:
        """Taste's own choice among images from several noises; with `keep` of those that still show the item."""
        taste = copy(self.taste("both"))
        taste.config = taste.config.model_copy(update={"best_of": count, "keep": keep})
        taste._learned = replace(taste.learned, strength=self.fixed["both"])
        made = taste.generate(self.requests, self.run.data, self.reward)
        return [creative.image for creative in made]

    def swapped(self) -> list[Image.Image]:
        """Taste of the next request's user for the same item."""
        users = [request.user_id for request in self.requests]
        others = users[1:] + users[:1]
        asked = [replace(r, user_id=user) for r, user in zip(self.requests, others, strict=True)]
        return self.answered("both", asked)

    def everybody(self) -> list[Image.Image]:
        """Taste of somebody unknown: what everybody likes."""
        return self.answered(
            "both", [replace(request, user_id="somebody unknown") for request in self.requests]
        )

    def shuffled(self, other: RunContext) -> list[Image.Image]:
        """Taste, reward included, learned from encounters that were given to users at random."""
        reward = reward_model(other, "reward")
        taste = fit(other, other.data, reward, "both")
        answers = taste.answers(self.requests, other.data, reward)
        return draw(taste, self.requests, answers, other.data, self.fixed["both"])

    def by_name(self, shuffled: Callable[[], RunContext]) -> dict[str, Arm]:
        """Return what draws each arm."""
        return {
            "text": self.text,
            "ip_adapter_mean": self.ip_adapter_mean,
            "both": lambda: self.shown("both"),
            "words": lambda: self.shown("words"),
            "image": lambda: self.shown("image"),
            "contrast_shown": self.contrast_shown,
            "without_reward": self.without_reward,
            "best_of_4": lambda: self.best_of(4),
            "best_of_4_kept": lambda: self.best_of(4, KEEP),
            "kept": self.kept,
            "swapped": self.swapped,
            "everybody": self.everybody,
            "shuffled": lambda: self.shuffled(shuffled()),
        }


def fit(
    run: RunContext,
    data: RunData,
    reward: Any,
    show: Any,
    keep: float | None = None,
) -> Taste:
    """Return taste fitted on a run; without `keep` its strengths are not looked for."""
    settings = Settings(show=show, decode=DECODE, keep=keep)
    generator = Taste(settings, run.models.backbone, run.models.encoder)
    generator.fit(data, reward)
    return generator


def draw(
    taste: Taste, requests: Sequence[Request], answers: Sequence[Answer], data: RunData, strength: Strength
) -> list[Image.Image]:
    """Return the requests' images, drawn from these answers with the requests' own seeds."""
    conditions = [
        taste.drawing(request, answer, data, strength)[0]
        for request, answer in zip(requests, answers, strict=True)
    ]
    return list(taste.backbone.generate(conditions, strength.sampling(DECODE)))
