"""The worlds of the experiments on `taste`: runs up to their reward, and what the truth says of images drawn in them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from recgen import api
from recgen.assets import asset_folder
from recgen.config.loader import load_config
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import SIZES
from recgen.data.simulation.simulator import Truth
from recgen.data.simulation.tastes import favourite
from recgen.data.types import Request
from recgen.features.tagger import best_phrases
from recgen.features.vocabulary import read_vocabulary, vocabulary_file
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import train

RECIPE = Path(__file__).with_name("recipe.yaml")
STYLES = np.stack(np.meshgrid(*map(np.arange, SIZES[1:]), indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class World:
    """A ranking model for reward, how many items each user met, and where users' tastes in images lie."""

    name: str
    model: str
    encounters: int
    tastes_in: str = "words"


WORLDS = (
    World("verifier-200", "Verifier", 200),
    World("micro-200", "MICRO", 200),
    World("verifier-50", "Verifier", 50),
    World("verifier-25", "Verifier", 25),
    World("factors-200", "Verifier", 200, "factors"),
)


def changes_of(world: World, seed: int) -> list[str]:
    """Return what a world and seed change of a recipe."""
    return [
        f"recgen.seed={seed}",
        f"recgen.simulator.seed={seed}",
        f"recgen.simulator.interactions_per_user={world.encounters}",
        f"recgen.simulator.tastes_in={world.tastes_in}",
        f"recgen.ranker.reward={world.model}",
        f"recgen.ranker.judge={world.model}",
    ]


def prepared(work: Path, world: World, seed: int) -> RunContext:
    """Return the run of a world and seed with its reward trained; what is done already is not done again."""
    return _run(work / f"{world.name}/seed{seed}/run", changes_of(world, seed))


def shuffled(work: Path, run: RunContext) -> RunContext:
    """Return a run on the same encounters, each of them given to a user at random, so that nobody has a taste of their own."""
    seed = run.settings.seed
    folder = run.folder.parent / "shuffled"
    data = folder / "data/shuffled"
    if not data.exists():
        shutil.copytree(run.source, data)
        for path in data.glob("simulated.*"):
            path.rename(path.with_name(path.name.replace("simulated", "shuffled")))
        table = pd.read_csv(data / "shuffled.inter", sep="\t", dtype=str)
        table["user_id:token"] = np.random.default_rng(seed).permutation(table["user_id:token"].to_numpy())
        table = table.drop_duplicates(["user_id:token", "item_id:token"])
        table.to_csv(data / "shuffled.inter", sep="\t", index=False)
    changes = [
        f"recgen.seed={seed}",
        "dataset=shuffled",
        f"data_path={data.parent.resolve()}",
        "recgen.simulator=null",
        f"recgen.images={(data / 'images').resolve()}",
        f"recgen.ranker.reward={run.settings.ranker.reward}",
        f"recgen.ranker.judge={run.settings.ranker.judge}",
    ]
    return _run(folder / "run", changes)


def _run(folder: Path, changes: Sequence[str]) -> RunContext:
    api.run(str(RECIPE), str(folder), changes, "features")
    run = RunContext(load_config(str(RECIPE), changes), folder)
    run.prepare_torch()
    if not (folder / "ranker/reward/training.json").exists():
        train(run, "reward")
    return run


class Measured:
    """What the truth and the proxy of `generators.taste.kept` say of the requests' images.

    Parameters
    ----------
    run
        A run of `prepared`.
    requests
        Whose images are measured.
    """

    def __init__(self, run: RunContext, requests: Sequence[Request]) -> None:
        self.run, self.requests = run, requests
        self.truth = Truth.load(run.folder / "dataset/simulator")
        self.reader = AttributeReader.load(asset_folder("attribute-reader"))
        self.users = [request.user_id for request in requests]
        self.items = [request.item_id for request in requests]
        self.own = self.truth.attributes_of(self.items)
        self.before = self.truth.utility(self.users, self.own, self.truth.factors_of(self.items))

    def bounds(self) -> dict[str, np.ndarray]:
        """Return the true gain, ``[n]`` each, of the best image of a request's motif, and of the image best for everybody."""
        if self.truth.sees_factors:
            rows = [self.truth.user_ids.index(user) for user in self.users]
            weights = self.truth.factors[rows, self.own[:, 0] % self.truth.factors.shape[1]]
            shared = np.tile(favourite(weights.mean(axis=0)), (len(rows), 1))
            chosen = {"ceiling": favourite(weights), "constant": shared}
            return {
                name: self.truth.utility(self.users, self.own, factors) - self.before
                for name, factors in chosen.items()
            }
        styles = self._of_styles()
        return {"ceiling": styles.max(axis=1), "constant": styles[:, styles.mean(axis=0).argmax()]}

    def _of_styles(self) -> np.ndarray:
        """Return the true gain of every style with the motif kept, float64 ``[n, 480]``."""
        motifs = self.own[:, 0]
        rows = [np.hstack([np.full((len(STYLES), 1), motif), STYLES]) for motif in motifs]
        gains = [
            self.truth.utility([user] * len(STYLES), looks) - before
            for user, looks, before in zip(self.users, rows, self.before, strict=True)
        ]
        return np.stack(gains)

    def table(self, images: Sequence[Image.Image]) -> pd.DataFrame:
        """Return a row per request: true gain, and content kept by the truth and by the proxy."""
        shown = self.reader.read(list(images))
        embeddings = self.run.models.encoder.images(list(images))
        return pd.DataFrame({
            "user_id": [f"{self.run.settings.seed}/{user}" for user in self.users],
            "item_id": self.items,
            "seed": self.run.settings.seed,
            "gain": self.truth.utility(self.users, shown, self.reader.factors(list(images))) - self.before,
            "content": (shown[:, 0] == self.own[:, 0]).astype(float),
            "content_proxy": self._proxy(embeddings),
        })  # fmt: skip

    def _proxy(self, embeddings: np.ndarray) -> np.ndarray:
        group = read_vocabulary(vocabulary_file("clip-tagger", self.run.settings.encoder)).groups["motif"]
        rows = [self.run.data.item_rows[item] for item in self.items]
        both = np.concatenate([embeddings, self.run.data.image_features[rows]])
        found = np.array(best_phrases(both, group.phrases, group.prompts, self.run.models.encoder))
        return (found[: len(rows)] == found[len(rows) :]).astype(float)
