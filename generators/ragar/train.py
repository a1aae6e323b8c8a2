"""Training RAGAR (eq. 17): requests made of earlier likes, images scored by the recommender, users held out to stop by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generators.base import Progress
from generators.common.training import (
    Curves,
    batches,
    likes_by_user,
    references,
    split_users,
    train_with_early_stopping,
    trainable,
)
from generators.ragar.calibrator import calibrator_loss
from generators.ragar.generation import conditions, decoding_seeds, key_conditions, perturbations
from generators.ragar.model import Case, Model, Output, read_case
from generators.ragar.reflection import advantages, rank_loss, rewards, semantic_loss, total_loss
from generators.ragar.settings import Settings
from recgen.core.seeding import seed_for
from recgen.data.types import RunData
from recgen.diffusion.backbone import Condition
from recgen.features.encoders import Encoder


@dataclass(frozen=True)
class Lessons:
    """What there is to learn from, and the users who say when to stop.

    Attributes
    ----------
    train, held_out
        Cases; no user is in both.
    """

    train: list[Case]
    held_out: list[Case]


def lessons(data: RunData, settings: Settings) -> Lessons:
    """Make requests of what was liked before the references: a liked item as reference, the likes before it as history."""
    by_user = likes_by_user(data)
    able = [user for user, items in by_user.items() if len(items) > settings.min_history]
    learned, held = split_users(able, "ragar users", data.run_seed, settings)
    return Lessons(
        [
            case
            for user in learned
            for case in _cases(data, user, by_user[user], settings, settings.references_per_user)
        ],
        [case for user in held for case in _cases(data, user, by_user[user], settings, 1)],
    )


def _cases(data: RunData, user: int, items: list[int], settings: Settings, count: int) -> Iterator[Case]:
    """Yield a user's latest `count` likes as references, each with the likes before it."""
    for at in references(len(items), count, settings):
        yield read_case(data, data.user_ids[user], data.item_ids[items[at]], items[:at], settings)


class Trainer:
    """Trains a model against a recommender.

    Parameters
    ----------
    model
        The model; it ends with the weights of its best evaluation.
    encoder
        Embeds the images it draws for the recommender to score.
    reward, judge
        `RewardModel`s: one to learn from, one to watch. Either may be None.
    settings
        RAGAR's.
    run_seed
        The run's seed.
    """

    def __init__(
        self, model: Model, encoder: Encoder, reward: Any, judge: Any, settings: Settings, run_seed: int
    ) -> None:
        self.model, self.encoder, self.reward, self.judge = model, encoder, reward, judge
        self.settings, self.run_seed = settings, run_seed
        self.curves: Curves = {}
        self.learns_from_reward = settings.beta > 0 and settings.r > 0
        self._key_scores: dict[str, float] = {}

    def train(self, lessons: Lessons, progress: Progress) -> Curves:
        """Train until the held-out users' reward stops rising (without a reward: their loss stops falling); return the curves."""
        settings, trained = self.settings, trainable(self.model)
        balance = "calibrator.balance"
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": [value for name, value in trained.items() if name != balance],
                    "lr": settings.learning_rate,
                },
                {"params": [trained[balance]], "lr": settings.calibrator_rate, "weight_decay": 0.0},
            ]
        )
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=settings.max_steps)
        drawn = batches(lessons.train, settings.requests_per_step, "ragar batches", self.run_seed)

        def after(step: int) -> None:
            decay.step()
            progress("RAGAR", step, settings.max_steps)

        train_with_early_stopping(
            trained,
            optimiser,
            lambda step: self._loss(step, next(drawn)),
            lambda step: self._evaluate(step, lessons.held_out),
            settings,
            after,
        )
        return self.curves

    def _loss(self, step: int, cases: list[Case]) -> Tensor:
        """Return eq. 17 of one batch, and note its parts."""
        out = self.model(cases)
        calibrator = calibrator_loss(out.general, out.retrieved)
        semantic = semantic_loss(out.multimodal, self.model.semantics(cases))
        rank = self._rank(step, cases, out) if self.learns_from_reward else torch.zeros_like(calibrator)
        self._note(step, {"calibrator loss": calibrator.item(), "semantic loss": semantic.item()})
        return total_loss(calibrator, rank, semantic, self.settings)

    def _rank(self, step: int, cases: list[Case], out: Output) -> Tensor:
        """Return L_rank: one call draws all images of the batch, one scores them (eqs. 11-15)."""
        settings, keys = self.settings, [case.key for case in cases]
        noise = perturbations(keys, out.action.shape[1:], step, self.run_seed, settings).to(out.action)
        actions = out.action.detach()[:, None] + settings.sigma * noise  # eq. 11
        count = actions.shape[1]
        seeds = [seed for row in decoding_seeds(keys, count, step, self.run_seed, settings) for seed in row]
        every = [case for case in cases for _ in range(count)]
        drawn = conditions(
            self.model.decodable(out, actions).flatten(0, 1), [c.text for c in every], seeds, settings
        )
        scores = self._scores(self.reward, every, self._draw(drawn)).reshape(len(cases), count)  # eqs. 12, 13
        reference, keyword = self._compared(cases)
        gained = rewards(scores, reference, keyword, settings.delta, settings.reward_sign)
        loss = rank_loss(out.action, actions, advantages(gained).to(out.action), settings.sigma)
        self._note(step, {"reward, training": scores.mean().item(), "rank loss": loss.item()})
        return loss

    def _compared(self, cases: list[Case]) -> tuple[Tensor, Tensor]:
        """Return rho_ref and rho_key ``[B]``: of the items' own images, and of the ones drawn from their words."""
        new = [case for case in cases if case.key not in self._key_scores]
        if new:
            seeds = [seed_for(self.run_seed, "ragar keyword picture", case.user, case.item) for case in new]
            scores = self._scores(
                self.reward, new, self._draw(key_conditions([case.text for case in new], seeds))
            )
            self._key_scores |= dict(zip([case.key for case in new], scores.tolist(), strict=True))
        users, items = [case.user for case in cases], [case.item for case in cases]
        reference = self.reward.score_original(users, items).cpu()
        return reference, torch.tensor([self._key_scores[case.key] for case in cases])

    def _draw(self, wanted: Sequence[Condition]) -> np.ndarray:
        """Return the raw image embeddings ``[n, D]`` of the images drawn."""
        images = list(self.model.backbone.generate(wanted, self.settings.train_decode))
        return self.encoder.images(images)

    def _scores(self, ranker: Any, cases: Sequence[Case], embeddings: np.ndarray) -> Tensor:
        scores = ranker.score([case.user for case in cases], [case.item for case in cases], embeddings)
        return scores.detach().float().cpu()

    @torch.no_grad()
    def _evaluate(self, step: int, cases: list[Case]) -> float:
        """Note what held-out users get, and return what training wants more of."""
        if not cases:
            return float(step)  # too few users to hold any out: the last step is the best there is
        out = self.model(cases)
        calibrator = calibrator_loss(out.general, out.retrieved)
        semantic = semantic_loss(out.multimodal, self.model.semantics(cases))
        if not self.learns_from_reward:
            loss = total_loss(calibrator, torch.zeros_like(calibrator), semantic, self.settings).item()
            self._note(step, {"loss, held-out users": loss})
            return -loss
        seeds = [seed_for(self.run_seed, "ragar held-out picture", case.user, case.item) for case in cases]
        texts = [case.text for case in cases]
        decodable = self.model.decodable(out, out.action[:, None])[:, 0]
        embeddings = self._draw(conditions(decodable, texts, seeds, self.settings))
        found = {
            f"{name}, held-out users": self._scores(ranker, cases, embeddings).mean().item()
            for name, ranker in (("reward", self.reward), ("judge", self.judge))
            if ranker is not None
        }
        self._note(step, found)
        return found["reward, held-out users"]

    def _note(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))
