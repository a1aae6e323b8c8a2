"""How often does the downstream test call a generator better that is not?

``python -m experiments.instruments.downstream_null`` writes downstream_null.json. Small worlds are drawn in which users like
items by their features; a recommender by content (the mean of a user's liked features) stands in for a trained model, with noise
of its own in every training. Draws, mixing, comparison and verdict are recgen's. Generators stand in too: they return
embeddings, and know nothing of the user they draw for, but `audience`, which shows what the user likes and is there to see that
the test can say yes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.data import draws
from recgen.metrics import comparison
from recgen.recommender import mixing
from recgen.report.verdicts import ranks_better

RUNS = 200
USERS, ITEMS, LIKES, WIDTH, DRAWS, DRAWN, PER_ITEM = 200, 120, 12, 8, 5, 120, 4
FAINT, TRAINING_NOISE, MIX = 2.0, 0.15, 0.5
SEED = 2026
METRICS = ("recall@10", "ndcg@10")


@dataclass(frozen=True)
class World:
    """Features float32 ``[items, WIDTH]``, liked items int64 ``[users, LIKES]``, of which the last is held out, and their
    table."""

    features: np.ndarray
    likes: np.ndarray
    table: pd.DataFrame


@lru_cache(maxsize=1)
def world(run: int) -> World:
    """Draw one world, whose images show what items are but faintly; each user's last like is the test part."""
    rng = numpy_rng(SEED, "downstream null world", str(run))
    truth = rng.normal(size=(ITEMS, WIDTH))
    features = (truth + FAINT * rng.normal(size=truth.shape)).astype(np.float32)
    utility = rng.normal(size=(USERS, WIDTH)) @ truth.T + rng.gumbel(size=(USERS, ITEMS))
    likes = np.stack([rng.permutation(row) for row in np.argsort(-utility, axis=1)[:, :LIKES]])
    split = np.array(["train"] * (LIKES - 2) + ["valid", "test"])
    users = np.repeat([f"u{user}" for user in range(USERS)], LIKES)
    items = [f"i{item}" for item in likes.ravel()]
    table = pd.DataFrame({"user_id": users, "item_id": items, "like": True, "split": np.tile(split, USERS)})
    return World(features, likes, table)


@lru_cache(maxsize=DRAWS)
def draw(run: int, turn: int) -> pd.DataFrame:
    """Return the requests of one draw in a run's world."""
    items = [f"i{item}" for item in range(ITEMS)]
    return draws.draw(world(run).table, items, SEED + run, turn, DRAWN, PER_ITEM)


StandIn = Callable[[World, np.random.Generator, int, int], np.ndarray]


def originals(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show the item's own image."""
    return here.features[item]


def redrawn(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show the item's own image with noise, as a generator that knows no user."""
    return here.features[item] + 0.5 * rng.normal(size=WIDTH)


def random_item(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show any item's image."""
    return here.features[rng.integers(ITEMS)]


def constant(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show the image of the item that is liked most often."""
    return here.features[np.bincount(here.likes[:, :-2].ravel()).argmax()]


def blank(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show nothing."""
    return np.zeros(WIDTH)


def audience(here: World, rng: np.random.Generator, user: int, item: int) -> np.ndarray:
    """Show what the user likes: the mean of the other training likes, at the length of an item's features."""
    mean = here.features[[other for other in here.likes[user, :-2] if other != item]].mean(axis=0)
    return mean * WIDTH**0.5 / np.linalg.norm(mean)


STAND_INS: dict[str, StandIn] = {
    each.__name__: each for each in (originals, redrawn, random_item, constant, blank, audience)
}


def results(here: World, features: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Train the stand-in on features and return each user's Recall@10 and NDCG@10."""
    known = here.likes[:, :-1]
    profiles = features[here.likes[:, :-2]].mean(axis=1)
    scores = profiles @ features.T + TRAINING_NOISE * rng.normal(size=(USERS, ITEMS))
    np.put_along_axis(scores, known, -np.inf, axis=1)
    held_out = here.likes[:, -1:]
    place = (scores > np.take_along_axis(scores, held_out, axis=1)).sum(axis=1)
    found = place < 10
    gain = np.where(found, 1 / np.log2(place + 2.0), 0.0)
    return pd.DataFrame({"user_id": np.arange(USERS), "recall@10": found * 1.0, "ndcg@10": gain})


def arms(here: World, stand_in: StandIn, run: int, turn: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every source of one draw with its features."""
    asked = draw(run, turn)
    rng = numpy_rng(SEED, f"downstream null {stand_in.__name__}", str(run), str(turn))
    rows, users = (asked[name].str[1:].astype(int).to_numpy() for name in ("item_id", "user_id"))
    made = np.stack([stand_in(here, rng, user, item) for user, item in zip(users, rows, strict=True)])
    means = {
        kind: mixing.item_means(rows[mine], made[mine].astype(np.float32))
        for kind in (draws.OWN, draws.SWAPPED)
        for mine in [(asked["kind"] == kind).to_numpy()]
    }
    counts = ((row, PER_ITEM) for row in means[draws.OWN])
    yield "ORI", here.features
    yield "SHUFFLED", here.features[rng.permutation(ITEMS)]
    yield "NONE", np.repeat(here.features.mean(axis=0, keepdims=True), ITEMS, axis=0)
    for name, found in (
        ("RANDOM", mixing.random_items(here.features, counts, run, turn)),
        ("g", means[draws.OWN]),
        ("swapped.g", means[draws.SWAPPED]),
        ("dealt.g", mixing.dealt(means[draws.OWN], run, turn)),
    ):
        yield name, mixing.mix(here.features, found, MIX)


def verdict(run: int, stand_in: StandIn) -> tuple[str, str]:
    """Return the report's verdict on one run, and its words."""
    here, tables = world(run), []
    for turn in range(DRAWS):
        for source, features in arms(here, stand_in, run, turn):
            rng = numpy_rng(SEED, f"downstream null training {source}", str(run), str(turn))
            tables.append(results(here, features, rng).assign(source=source, draw=turn))
    found = comparison.compare(pd.concat(tables), METRICS, ["g"])
    return ranks_better({"downstream": found.means, "tests": {"paired": found.tests}}, "g")


def main(folder: Path, runs: int) -> None:
    """Count verdicts and write them."""
    found: dict[str, Counter[str]] = {name: Counter() for name in STAND_INS}
    for run in range(runs):
        for name, stand_in in STAND_INS.items():
            found[name][": ".join(verdict(run, stand_in))] += 1
    counted: dict[str, Any] = {}
    for name, words in found.items():
        counted[name] = {"yes": words["good: yes"] / runs, "verdicts": dict(words)}
        print(name, counted[name], flush=True)
    write_json(folder / "downstream_null.json", {"runs": runs, "draws": DRAWS, "generators": counted})


if __name__ == "__main__":
    main(Path(__file__).parent, int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
