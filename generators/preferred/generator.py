"""preferred: `taste`, whose IP-Adapter has learned further from which of its images are preferred.

For rewards without a gradient with respect to the image, such as MICRO, which can be asked for scores alone:

1. `taste` is fitted, and says for training users and items they like what to draw for several k (`pairs`);
2. of the images drawn, its opinion says which is preferred: the reward's score as far as it is trusted, and the user's own likes;
3. a low-rank change of the IP-Adapter's keys and values is trained on these pairs by DiffusionNFT (`train`).

What is drawn afterwards is drawn from `taste`'s own conditions, one image a request. docs/decisions.md says why DiffusionNFT, and
`experiments/taste` what it gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from generators.base import Progress, silent
from generators.common.lora import new_lora
from generators.common.training import (
    Learned,
    examples_of,
    learned_users,
    load_learned,
    references,
    restore,
    write_learned,
)
from generators.preferred.pairs import Pair, ranked
from generators.preferred.settings import Settings
from generators.preferred.train import Trainer
from generators.taste import Taste
from generators.taste.asked import Opinion
from recgen.core.errors import UserError
from recgen.core.seeding import seed_for
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel, Scorer

_NAME, _LAYERS, _STAGE = "preferred", ("to_k_ip.0", "to_v_ip.0"), "preferred start"
_FOLDER = "adapter"


class Preferred(Taste):
    """Draws as taste does, with keys and values of the IP-Adapter that learned which of its images are preferred."""

    name = "preferred"
    Config = Settings
    config: Settings

    users: Learned
    weights: Mapping[str, Tensor]

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Fit taste, compare its images, and train the adapter's keys and values.

        Raises
        ------
        UserError
            Where nobody has likes to learn from, or prefers an image that still shows its item.
        """
        super().fit(data, reward, judge, progress)
        found = examples_of(data, self.config, "preferred users", lambda *of: self._of_user(data, *of))
        train, held_out = (self.pairs(requests, data, reward, progress) for requests in found)
        if found[0] and not train:
            raise UserError(
                "recgen.preferred.keep",
                found="no preferred image that still shows its item",
                expected="some to learn from",
                todo="Set keep: null, or a vocabulary whose groups of content fit the items.",
            )
        self.users = learned_users(train, held_out, "preferred", "no user with liked images after that many")
        trainer = Trainer(self.backbone, self.config, self.learned.strength.scale, data.run_seed)
        with self._adapted(data.run_seed) as trained:
            self.curves = trainer.train(trained, train, held_out, progress)
            self.weights = {name: value.detach().cpu().clone() for name, value in trained.items()}

    def _of_user(self, data: RunData, user: int, items: list[int]) -> Iterator[Request]:
        """Yield requests for a user's latest likes that have an image."""
        token = data.user_ids[user]
        for at in references(len(items), self.config.references_per_user, self.config):
            if np.isfinite(data.image_features[items[at]]).all():
                name = data.item_ids[items[at]]
                yield Request(token, name, seed_for(data.run_seed, "preferred", token, name))

    def opinion(self, data: RunData, reward: RewardModel | None) -> Scorer:
        """Return what says which images are preferred."""
        return Opinion(self._asking(data, reward))

    def pairs(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None, progress: Progress
    ) -> list[Pair]:
        """Return the pairs of requests, block by block: nothing of one request depends on another."""
        size = self.config.decode.batch_size
        pairs: list[Pair] = []
        for start in range(0, len(requests), size):
            pairs += self._compared(requests[start : start + size], data, reward)
            progress("preferred: comparing", min(start + size, len(requests)), len(requests))
        return pairs

    def _compared(self, requests: Sequence[Request], data: RunData, reward: RewardModel | None) -> list[Pair]:
        config, sampling = self.config, self.learned.strength.sampling(self.config.decode)
        users, items = [r.user_id for r in requests], [r.item_id for r in requests]
        own = data.image_features[[data.item_rows[item] for item in items]]
        opinion, served = self.opinion(data, reward), self._conditions(requests, data, reward, config.k)
        shape = (len(config.looks), config.noises)
        scores, kept = np.zeros((len(requests), *shape)), np.zeros((len(requests), *shape), dtype=bool)
        latents: dict[tuple[int, int], Tensor] = {}
        for look, k in enumerate(config.looks):
            conditions = self._conditions(requests, data, reward, k)
            for place in range(config.noises):
                seeded = [_seeded(condition, place) for condition in conditions]
                images = list(self.backbone.generate(seeded, sampling))
                seen = self.encoder.images(images)
                scores[:, look, place] = opinion.score(users, items, seen)
                kept[:, look, place] = config.keep is None or self._same_content(seen, own)
                latents[look, place] = self.backbone.encode_images(images).cpu()
        return [
            Pair(
                request.user_id, request.item_id, place, served[row],
                latents[better, place][[row]], latents[worse, place][[row]],
            )
            for row, request in enumerate(requests)
            for place, better, worse in ranked(scores[row], kept[row])
        ]  # fmt: skip

    def _conditions(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None, k: int
    ) -> list[Condition]:
        """Return what taste draws requests from with the style of k items."""
        answers = self.answers(requests, data, reward, k)
        strength = self.learned.strength
        pairs = zip(requests, answers, strict=True)
        return [self.drawing(request, answer, data, strength)[0] for request, answer in pairs]

    @contextmanager
    def _adapted(self, run_seed: int = 0) -> Iterator[dict[str, Tensor]]:
        with new_lora(self.backbone, _NAME, self.config.rank, _LAYERS, run_seed, _STAGE) as trained:
            yield trained

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order, drawn block by block: between blocks the UNet is as it was."""
        size = self.config.decode.batch_size
        for start in range(0, len(requests), size):
            block = requests[start : start + size]

            def counted(what: str, done: int, total: int, start: int = start) -> None:
                progress(what, start + done, len(requests))

            with self._adapted() as trained:
                restore(trained, self.weights, Path(self.name))
                creatives = list(super().generate(block, data, reward, counted))
            yield from creatives

    def save(self, folder: Path) -> None:
        """Write what taste learned, and the low-rank part and its users in a folder below it."""
        super().save(folder)
        write_learned(folder / _FOLDER, self.weights, self.users)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no preferred.
        """
        super().load(folder)
        self.weights, self.users = load_learned(folder / _FOLDER, "preferred")


def _seeded(condition: Condition, place: int) -> Condition:
    return replace(condition, seed=seed_for(condition.seed, f"preferred noise {place}"))
