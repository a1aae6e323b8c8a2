"""What `preferred`, the adapter learned from which images are preferred, adds to `taste` at one image a request.

Usage: python -m experiments.taste.preferred [--work FOLDER] [--seeds 1 2 3] [--only-collect]

Verifier and MICRO at 200 encounters, tastes in words and in factors; settings were chosen on seed 900. A world and seed that is
finished is kept, so that the command can be stopped and called again; preferred.json holds what is finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from experiments import harness
from experiments.taste.arms import DECODE, FIXED, FIXED_FACTORS
from experiments.taste.worlds import WORLDS, Measured, World, prepared
from generators.common.training import examples_of
from generators.preferred import Preferred, Settings
from generators.preferred.pairs import Pair
from generators.preferred.train import Trainer
from generators.taste import Taste
from recgen.core.io import write_parquet
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import Request
from recgen.diffusion.conditions import Condition
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import reward_model

HERE = Path(__file__).parent
SEEDS, REQUESTS, CHOSEN_AMONG = (1, 2, 3), 60, 20
"""Requests a seed, and of how many of them 8 images are drawn."""
NAMED = {world.name: world for world in WORLDS}
TRIED = (
    NAMED["factors-200"],
    NAMED["micro-200"],
    World("micro-factors-200", "MICRO", 200, "factors"),
    NAMED["verifier-200"],
)
LOOKS = (1, 3, 5, 10, 20, 40, 80, 160)
"""k of the conditions that are chosen among."""
SETTINGS = Settings(decode=DECODE)
METRICS = ("gain", "content", "reward")
AGAINST = {
    "preferred": "taste",
    "shuffled": "taste",
    "best of 8 noises": "taste",
    "best of 8 conditions": "taste",
    "another user's, preferred": "another user's",
}


def main() -> None:
    """Draw what is not there yet, seed by seed, and write preferred.json."""
    given = harness.arguments(__doc__ or "", SEEDS)
    work = given.work / "taste_preferred"
    for seed in [] if given.only_collect else given.seeds:
        for world in TRIED:
            if not (file := _file(work, world, seed)).exists():
                write_parquet(file, _Drawn(prepared(work, world, seed), world).table())
                print(f"{world.name} seed {seed} done", flush=True)
    found = {world.name: _collected(work, world, given.seeds) for world in TRIED}
    harness.save(
        {"requests per seed": REQUESTS, "of 8 images": CHOSEN_AMONG, "worlds": found}, HERE / "preferred.json"
    )


def _file(work: Path, world: World, seed: int) -> Path:
    return work / f"{world.name}/seed{seed}/preferred.parquet"


class _Drawn:
    """The arms of one world and seed."""

    def __init__(self, run: RunContext, world: World) -> None:
        self.run, self.requests = run, run.requests[:REQUESTS]
        self.strength = (FIXED if world.tastes_in == "words" else FIXED_FACTORS)["both"]
        self.sampling = self.strength.sampling(DECODE)
        self.reward = reward_model(run, "reward")
        self.generator = Preferred(SETTINGS, run.models.backbone, run.models.encoder)

    def table(self) -> pd.DataFrame:
        """Return a row per arm and request."""
        rows = []
        for arm, images in self._arms():
            requests = self.requests[: len(images)]
            table = Measured(self.run, requests).table(images)
            table["reward"] = self._scores(requests, images)
            rows.append(table.assign(arm=arm))
            print(arm, table[list(METRICS)].mean().round(3).to_dict(), flush=True)
        return pd.concat(rows, ignore_index=True)

    def _arms(self) -> Iterator[tuple[str, list[Image.Image]]]:
        generator, data, reward = self.generator, self.run.data, self.reward
        generator.config = SETTINGS.model_copy(
            update={"keep": None}
        )  # the strength is that of the other arms
        Taste.fit(generator, data, reward)
        generator.config = SETTINGS
        generator._learned = replace(generator.learned, strength=self.strength)
        own, others = self._conditions(self.requests), self._conditions(_of_others(self.requests))
        yield "taste", self._draw(own)
        yield "another user's", self._draw(others)
        examples = examples_of(data, SETTINGS, "preferred users", lambda *of: generator._of_user(data, *of))
        train, held_out = (generator.pairs(each, data, reward, lambda *call: None) for each in examples)
        with self._learned(train, held_out):
            yield "preferred", self._draw(own)
            yield "another user's, preferred", self._draw(others)
        with self._learned(_dealt(train), _dealt(held_out)):
            yield "shuffled", self._draw(own)
        few = self.requests[:CHOSEN_AMONG]
        noises = [
            [replace(each, seed=seed_for(each.seed, f"noise {turn}")) for each in own[:CHOSEN_AMONG]]
            for turn in range(8)
        ]
        yield "best of 8 noises", self._best(few, noises)
        yield "best of 8 conditions", self._best(few, [self._conditions(few, k) for k in LOOKS])

    def _conditions(self, requests: Sequence[Request], k: int = SETTINGS.k) -> list[Condition]:
        """Return what requests are drawn from, for the users of `requests`; noises are the items' requests' own."""
        return self.generator._conditions(requests, self.run.data, self.reward, k)

    def _draw(self, conditions: Sequence[Condition]) -> list[Image.Image]:
        return list(self.run.models.backbone.generate(conditions, self.sampling))

    @contextmanager
    def _learned(self, train: list[Pair], held_out: list[Pair]) -> Iterator[None]:
        """Train on pairs and draw with what is learned in the block."""
        generator, seed = self.generator, self.run.data.run_seed
        trainer = Trainer(generator.backbone, SETTINGS, self.strength.scale, seed)
        with generator._adapted(seed) as trained:
            curves = trainer.train(trained, train, held_out, lambda *call: None)
            print("held-out loss", curves["loss, held-out users"], flush=True)
            yield

    def _scores(self, requests: Sequence[Request], images: Sequence[Image.Image]) -> np.ndarray:
        users, items = [r.user_id for r in requests], [r.item_id for r in requests]
        scores = self.reward.score(users, items, self.run.models.encoder.images(list(images)))
        return np.asarray(scores.detach().cpu())

    def _best(self, requests: Sequence[Request], rounds: Sequence[list[Condition]]) -> list[Image.Image]:
        """Return for each request the image of the rounds that the reward prefers."""
        drawn = [self._draw(each) for each in rounds]
        scores = np.stack([self._scores(requests, images) for images in drawn])
        return [drawn[best][row] for row, best in enumerate(scores.argmax(axis=0))]


def _of_others(requests: Sequence[Request]) -> list[Request]:
    """Return each item asked for the next request's user, with the noise that it has."""
    users = [request.user_id for request in requests]
    return [replace(r, user_id=user) for r, user in zip(requests, users[1:] + users[:1], strict=True)]


def _dealt(pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs of which half, at random, have what was preferred rejected."""

    def turned(pair: Pair) -> bool:
        return bool(numpy_rng(0, "preferred labels", pair.user, pair.item).random() < 0.5)

    return [
        replace(pair, preferred=pair.rejected, rejected=pair.preferred) if turned(pair) else pair
        for pair in pairs
    ]


def _collected(work: Path, world: World, seeds: Sequence[int]) -> dict[str, Any]:
    files = [_file(work, world, seed) for seed in seeds if _file(work, world, seed).exists()]
    if not files:
        return {}
    every = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    arms = {str(arm): rows for arm, rows in every.groupby("arm", sort=False)}
    return {
        "arms": {arm: harness.means(rows, METRICS) for arm, rows in arms.items()},
        "paired": {
            f"{arm} - {other}": harness.paired(arms[arm], arms[other], METRICS)
            for arm, other in AGAINST.items()
        },
        "preferred - best of 8 conditions": harness.paired(
            arms["preferred"], arms["best of 8 conditions"], METRICS
        ),
    }


if __name__ == "__main__":
    main()
