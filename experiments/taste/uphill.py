"""Ways to please a reward more than `taste` does, by its gradient or by choosing, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.taste.arms import DECODE, fit
from generators.base import silent
from generators.common.refinement import Score, refine
from generators.common.settings import Refinement
from generators.taste.corrected import Corrector, learn
from generators.taste.kept import Strength
from generators.taste.shown import Answer
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import Request
from recgen.diffusion.conditions import Condition
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole
from recgen.recommender.reward import Ranker, RewardModel
from recgen.recommender.training import train
from recgen.stages.ranker import reward_model, training_task

LOOKS = (1, 2, 3, 5, 10, 40, 80)
"""k of the conditions that are chosen among, beside taste's own 20."""
CORRECTIONS = ("own", "swapped", "everybody", "constant")
OTHERS = 16
"""Users whose corrections for an item are averaged."""
Images = list[Image.Image]


def rewards(run: RunContext, count: int) -> list[RewardModel]:
    """Return the run's reward and others that differ from it in their seed alone, `count` in all."""
    found: list[RewardModel] = [reward_model(run, "reward")]
    for member in range(1, count):
        task = training_task(run, "reward")
        task.config["seed"] = seed_for(run.settings.seed, "ensemble", str(member)) % 2**31
        data = recbole.loaders(task.config, task.parts, task.keep)
        run.prepare_torch()
        trained = train(task.config, data)
        found.append(Ranker(trained.model, data.train.dataset, run.settings.ranker.what_if))
    return found


class Pessimist:
    """The mean of several rewards less their standard deviation: what they agree on.

    Parameters
    ----------
    members
        The rewards, trained alike but for their seeds.
    """

    def __init__(self, members: Sequence[RewardModel]) -> None:
        self.members = members

    def differentiable(self, users: Sequence[str], items: Sequence[str]) -> Score:
        """Return the score as a function of images' embeddings."""
        scores = [member.differentiable(users, items) for member in self.members]

        def score(embeddings: Tensor) -> Tensor:
            each = torch.stack([one(embeddings) for one in scores if one is not None])
            return each.mean(0) - each.std(0)

        return score


class Uphill:
    """The arms of one run.

    Parameters
    ----------
    run
        A run with its reward.
    requests
        The requests that every arm draws; of their users and items no correction is learned.
    strength
        What images are drawn with.
    """

    def __init__(self, run: RunContext, requests: Sequence[Request], strength: Strength) -> None:
        self.run, self.requests, self.data = run, list(requests), run.data
        self.members = rewards(run, 3)
        self.reward = self.members[0]
        self.taste = fit(run, run.data, self.reward, "both")
        self.taste._learned = replace(self.taste.learned, strength=strength)
        self.strength, self.sampling = strength, strength.sampling(DECODE)
        self.answers = self.taste.answers(self.requests, self.data, self.reward)
        self.plain = self.conditions(self.requests, self.answers)
        self.climbed: dict[str, Any] = {
            "reward": self.reward,
            "pessimist": Pessimist(self.members),
            "opinion": self.taste._asking(self.data, self.reward),
        }

    def conditions(self, requests: Sequence[Request], answers: Sequence[Answer]) -> list[Condition]:
        """Return what taste draws requests from."""
        pairs = zip(requests, answers, strict=True)
        return [self.taste.drawing(request, answer, self.data, self.strength)[0] for request, answer in pairs]

    @cached_property
    def own(self) -> Images:
        """The images of taste as it is."""
        return self.drawn(self.plain)

    def drawn(self, conditions: Sequence[Condition]) -> Images:
        """Return the images of conditions."""
        return list(self.taste.backbone.generate(conditions, self.sampling))

    def score(self, by: str, requests: Sequence[Request]) -> Score:
        """Return what somebody of `climbed` thinks of requests' images."""
        users, items = [request.user_id for request in requests], [request.item_id for request in requests]
        found: Score = self.climbed[by].differentiable(users, items)
        return found

    def scores(self, by: str, images: Images) -> np.ndarray:
        """Return the same of the requests' drawn images, ``[n]``."""
        seen = torch.from_numpy(self.run.models.encoder.images(images))
        with torch.no_grad():
            return self.score(by, self.requests)(seen).numpy()

    @cached_property
    def noises(self) -> tuple[list[Images], float]:
        """Images of 8 noises of each request, round by round, taste's own the first, and the CPU seconds of the others."""
        turns = [
            [replace(each, seed=seed_for(each.seed, f"noise {turn}")) for each in self.plain]
            for turn in range(1, 8)
        ]
        rounds, spent = timed(lambda: [self.drawn(each) for each in turns])
        return [self.own, *rounds], spent

    @cached_property
    def looks(self) -> tuple[list[Images], float]:
        """Images of 8 values of k, round by round, taste's own the first, and the CPU seconds of the others."""
        rounds, spent = timed(lambda: [self._look(k) for k in LOOKS])
        return [self.own, *rounds], spent

    def _look(self, k: int) -> Images:
        config = self.taste.config
        self.taste.config = config.model_copy(update={"k": k})
        conditions = self.conditions(self.requests, self.taste.answers(self.requests, self.data, self.reward))
        self.taste.config = config
        return self.drawn(conditions)

    def best(self, rounds: Sequence[Images], by: str) -> Images:
        """Return for each request the image of the rounds that is thought best of."""
        places = np.stack([self.scores(by, images) for images in rounds]).argmax(axis=0)
        return [rounds[place][row] for row, place in enumerate(places)]

    def refined(self, by: str, settings: Refinement) -> Images:
        """Return images whose embeddings were moved uphill, request by request."""
        texts = self.taste._texts(self.requests, self.data)
        return self.drawn(self._refined(by, self.requests, self.plain, texts, settings))

    def _refined(
        self,
        by: str,
        requests: Sequence[Request],
        conditions: Sequence[Condition],
        texts: Tensor,
        settings: Refinement,
    ) -> list[Condition]:
        backbone, encoder, found = self.taste.backbone, self.taste.encoder, list[Condition]()
        for start in range(0, len(requests), self.sampling.batch_size):
            part = slice(start, start + self.sampling.batch_size)
            score = self.score(by, requests[part])
            found += refine(backbone, encoder, conditions[part], texts[part], score, self.sampling, settings)
        return found

    def pairs(self, count: int) -> list[Request]:
        """Return pairs of a user and an item to learn from, none of them of the users or the items reported on."""
        seed = self.run.settings.seed
        reported = ({each.user_id for each in self.requests}, {each.item_id for each in self.requests})
        looked_at = [self.data.item_ids[row] for row in self.taste.learned.rows]
        rng = numpy_rng(seed, "corrections learned")
        columns = [
            rng.choice([token for token in tokens if token not in taken], count).tolist()
            for tokens, taken in zip((self.data.user_ids, looked_at), reported, strict=True)
        ]
        return [Request(*pair, seed_for(seed, "correction", *pair)) for pair in zip(*columns, strict=True)]

    def learned(self, by: str, count: int, settings: Refinement) -> Corrector:
        """Return what corrects embeddings after it has learned from `count` pairs to please somebody of `climbed`."""
        pairs = self.pairs(count)
        conditions, known, texts = self._asked(pairs)
        corrector = Corrector.of(known, self.run.models.encoder.dim, self.run.settings.seed)
        backbone, encoder, sampling = self.taste.backbone, self.taste.encoder, self.sampling
        learn(
            corrector, backbone, encoder, conditions, known, texts, lambda part: self.score(by, pairs[part]), sampling, settings,
            silent,
        )  # fmt: skip
        return corrector

    def regressed(self, by: str, count: int, settings: Refinement) -> Corrector:
        """Return what corrects embeddings after it has learned by least squares what `refine` finds for `count` pairs."""
        pairs = self.pairs(count)
        conditions, known, texts = self._asked(pairs)
        corrector = Corrector.of(known, self.run.models.encoder.dim, self.run.settings.seed)
        start = torch.from_numpy(_embeddings(conditions))
        target = torch.from_numpy(_embeddings(self._refined(by, pairs, conditions, texts, settings)))
        scale = start.square().mean(1, keepdim=True).sqrt()
        optimiser = torch.optim.AdamW(corrector.parameters(), lr=1e-3, weight_decay=0.1)
        for _ in range(300):
            loss = ((corrector(known, start) - target) / scale).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return corrector

    def _asked(self, requests: Sequence[Request]) -> tuple[list[Condition], Tensor, Tensor]:
        """Return what requests are drawn from, what is known of them ``[n, P]``, and their texts' embeddings ``[n, D]``."""
        answers = self.taste.answers(requests, self.data, self.reward)
        conditions = self.conditions(requests, answers)
        known = self.taste._known(requests, answers, conditions, self.data)
        return conditions, known, self.taste._texts(requests, self.data)

    def corrections(self, corrector: Corrector) -> dict[str, np.ndarray]:
        """Return changes of the requests' image embeddings ``[n, D]``: their own, of another user, and of nobody.

        ``swapped`` are those of the next request's user for the same item, ``everybody`` the mean of those of some users for the
        same item, ``constant`` the mean over all requests.
        """
        users = [request.user_id for request in self.requests]
        own = self._change(corrector, users)
        turned = [self._change(corrector, users[turn:] + users[:turn]) for turn in range(1, OTHERS + 1)]
        everywhere = np.broadcast_to(own.mean(axis=0), own.shape)
        found = (own, turned[0], np.mean(turned, axis=0), everywhere)
        return dict(zip(CORRECTIONS, found, strict=True))

    def _change(self, corrector: Corrector, users: Sequence[str]) -> np.ndarray:
        """Return the changes that a corrector makes for users in the place of the requests' own."""
        conditions, known, _ = self._asked(
            [replace(request, user_id=user) for request, user in zip(self.requests, users, strict=True)]
        )
        start = _embeddings(conditions)
        return corrector.corrected(known, start) - start

    def moved(self, change: np.ndarray) -> Images:
        """Return the images of the requests' own embeddings with changes ``[n, D]``."""
        rows = _embeddings(self.plain) + change
        return self.drawn(
            [replace(each, image_embedding=row) for each, row in zip(self.plain, rows, strict=True)]
        )


def _embeddings(conditions: Sequence[Condition]) -> np.ndarray:
    return np.stack([np.asarray(each.image_embedding) for each in conditions])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what some work returns, and its CPU seconds."""
    started = time.process_time()
    return work(), time.process_time() - started
