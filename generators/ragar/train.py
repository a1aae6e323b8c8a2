"""Training RAGAR (eq. 17): requests made of earlier likes, images scored by the recommender, users held out to stop by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from generators.base import Progress
from generators.common.training import Curves, batches, train_with_early_stopping, trainable
from generators.ragar.examples import Example, TrainingExamples
from generators.ragar.generation import conditions, decoding_seeds, key_conditions, perturbations
from generators.ragar.model import Model, Output
from generators.ragar.reflection import advantages, rank_loss, rewards, squared_distance, total_loss
from generators.ragar.settings import Settings
from recgen.core.seeding import seed_for
from recgen.diffusion.conditions import Condition
from recgen.features.encoders import Encoder
from recgen.recommender.reward import RewardModel


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
        self,
        model: Model,
        encoder: Encoder,
        reward: RewardModel | None,
        judge: RewardModel | None,
        settings: Settings,
        run_seed: int,
    ) -> None:
        self.model, self.encoder, self.reward, self.judge = model, encoder, reward, judge
        self.settings, self.run_seed = settings, run_seed
        self.curves: Curves = {}
        self._key_scores: dict[str, float] = {}

    def train(self, examples: TrainingExamples, progress: Progress) -> Curves:
        """Train with early stopping by the held-out users' reward (without a reward: by their loss); return the curves."""
        settings = self.settings
        self.model.measure(examples.train)
        trained = trainable(self.model)
        optimiser = torch.optim.AdamW(trained.values(), lr=settings.learning_rate)
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=settings.max_steps)
        drawn = batches(examples.train, settings.requests_per_step, "ragar batches", self.run_seed)

        def after(step: int) -> None:
            decay.step()
            progress("RAGAR", step, settings.max_steps)

        train_with_early_stopping(
            trained,
            optimiser,
            lambda step: self._loss(step, next(drawn)).backward(),
            lambda step: self._evaluate(step, examples.held_out),
            settings,
            after,
        )
        return self.curves

    def _loss(self, step: int, examples: list[Example]) -> Tensor:
        """Return eq. 17 of one batch, and note its parts."""
        out = self.model(examples)
        calibrator, semantic = self._distances(examples, out)
        rank = (
            self._rank(step, examples, out)
            if self.settings.learns_from_reward
            else torch.zeros_like(calibrator)
        )
        self._note(step, {"calibrator loss": calibrator.item(), "semantic loss": semantic.item()})
        return total_loss(calibrator, rank, semantic, self.settings)

    def _distances(self, examples: list[Example], out: Output) -> tuple[Tensor, Tensor]:
        """Return L_cal and L_sem (eqs. 10 and 16)."""
        kind = self.settings.distance
        calibrator = squared_distance(out.general, out.retrieved, kind)
        return calibrator, squared_distance(out.multimodal, self.model.semantics(examples), kind)

    def _rank(self, step: int, examples: list[Example], out: Output) -> Tensor:
        """Return L_rank: one call draws all images of the batch, one scores them (eqs. 11-15)."""
        assert self.reward is not None
        settings, keys = self.settings, [example.key for example in examples]
        noise = perturbations(keys, out.action.shape[1:], step, self.run_seed, settings).to(out.action)
        actions = out.action.detach()[:, None] + settings.sigma * noise  # eq. 11
        count = actions.shape[1]
        seeds = [seed for row in decoding_seeds(keys, count, step, self.run_seed, settings) for seed in row]
        every = [example for example in examples for _ in range(count)]
        drawn = conditions(
            self.model.decodable(out, actions).flatten(0, 1), [c.text for c in every], seeds, settings
        )
        scores = self._scores(self.reward, every, self._draw(drawn)).reshape(
            len(examples), count
        )  # eqs. 12, 13
        gained = self._rewards(examples, scores)
        loss = rank_loss(out.action, actions, advantages(gained).to(out.action), settings.sigma)
        self._note(step, {"reward, training": scores.mean().item(), "rank loss": loss.item()})
        return loss

    def _rewards(self, examples: list[Example], scores: Tensor) -> Tensor:
        """Return eq. 14 of scores ``[B, n]``.

        Without the clamp both references are the same for all samples of a request and cancel in their advantages: then no
        keyword image is drawn, unless a single sample has no other to be compared with.
        """
        settings = self.settings
        if settings.clamp or settings.samples == 1:
            reference, keyword = self._compared(examples)
        else:
            reference = keyword = torch.zeros(len(examples))
        return rewards(scores, reference, keyword, settings.delta, settings.reward_sign, settings.clamp)

    def _compared(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        """Return rho_ref and rho_key ``[B]``: of the items' own images, and of the ones drawn from their words."""
        assert self.reward is not None
        new = [example for example in examples if example.key not in self._key_scores]
        if new:
            seeds = [
                seed_for(self.run_seed, "ragar keyword picture", example.user, example.item)
                for example in new
            ]
            scores = self._scores(
                self.reward, new, self._draw(key_conditions([example.text for example in new], seeds))
            )
            self._key_scores |= dict(zip([example.key for example in new], scores.tolist(), strict=True))
        users, items = [example.user for example in examples], [example.item for example in examples]
        reference = self.reward.score_original(users, items).cpu()
        return reference, torch.tensor([self._key_scores[example.key] for example in examples])

    def _draw(self, wanted: Sequence[Condition]) -> np.ndarray:
        """Return the raw image embeddings ``[n, D]`` of the images drawn."""
        images = list(self.model.backbone.generate(wanted, self.settings.train_decode))
        return self.encoder.images(images)

    def _scores(self, ranker: RewardModel, examples: Sequence[Example], embeddings: np.ndarray) -> Tensor:
        scores = ranker.score(
            [example.user for example in examples], [example.item for example in examples], embeddings
        )
        return scores.detach().float().cpu()

    @torch.no_grad()
    def _evaluate(self, step: int, examples: list[Example]) -> float:
        """Note what held-out users get, and return what training wants more of."""
        if not examples:
            return float(step)  # too few users to hold any out: the last step is the best there is
        out = self.model(examples)
        calibrator, semantic = self._distances(examples, out)
        if not self.settings.learns_from_reward:
            loss = total_loss(calibrator, torch.zeros_like(calibrator), semantic, self.settings).item()
            self._note(step, {"loss, held-out users": loss})
            return -loss
        seeds = [
            seed_for(self.run_seed, "ragar held-out picture", example.user, example.item)
            for example in examples
        ]
        texts = [example.text for example in examples]
        decodable = self.model.decodable(out, out.action[:, None])[:, 0]
        embeddings = self._draw(conditions(decodable, texts, seeds, self.settings))
        found = {
            f"{name}, held-out users": self._scores(ranker, examples, embeddings).mean().item()
            for name, ranker in (("reward", self.reward), ("judge", self.judge))
            if ranker is not None
        }
        self._note(step, found)
        return found["reward, held-out users"]

    def _note(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))
