"""Does a market find what is there, and nothing where there is nothing?

``standins``: one market in each of some worlds (20 by default), each with its own users, items and clicks. Nothing is drawn: an
arm's pictures are attributes. `fitting` shows the user's best style with a given accuracy, `swapped` what was made for another
user, `constant` the one style that users outside the market like best, and `random` any. The recommender is `Rates`. Counted is
how often the interval of the uplift holds 0 where pictures do not matter, and the expected uplift where they do.

``coverage``: 200 further worlds of stand-ins in which pictures do not matter, for how often the intervals hold 0.

``trained``: the same with VBPR, trained anew on the log after each round, and a shop for each arm (standins.yaml).

``drawn``: worlds with taste's own drawings (drawn.yaml), from seed 1.

    python -m experiments.market.measure standins --seeds 20
    python -m experiments.market.measure coverage --seeds 200
    python -m experiments.market.measure drawn --seeds 5 --work runs/market
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen import api
from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.click_log import ORIGINAL
from recgen.data.simulation.attributes import SIZES
from recgen.data.simulation.click_models import PositionBased
from recgen.data.simulation.market import Images, Shop, Visits, base_utility, labels, play
from recgen.data.simulation.simulator import LIKED, Truth, World, draw_interactions, draw_truth
from recgen.metrics.market import QUALITY, summary
from recgen.pipeline.context import RunContext
from recgen.stages.market import play_worlds
from recgen.stages.market_images import TrueTaste, original
from recgen.stages.market_training import candidates

HERE = Path(__file__).parent
USERS, ITEMS, MET, VISITORS = 150, 150, 50, 60
"""Sizes of a world of stand-ins, as in standins.yaml: users, items, encounters a user, and users who visit the market."""
FURTHER = 20
"""The first world of `coverage`; those of `standins` are before it."""
PRIOR = 4.0
"""Pseudo-counts of a rate."""
ACCURACY, CONTENT = 0.6, 0.9
"""How often a stand-in draws the attribute of style that it means to, and the item's motif."""


class StandIns:
    """What stand-ins for generators show, by attributes alone."""

    def __init__(self, truth: Truth, users: Sequence[str], seed: int) -> None:
        self.truth, self.seed = truth, seed
        self.styles = np.stack(np.meshgrid(*map(np.arange, SIZES[1:]), indexing="ij"), -1).reshape(-1, 3)
        others = [user for user in truth.user_ids if user not in set(users)]
        liked = np.mean([self._utilities(user, 0) for user in others], axis=0)
        self.popular = self.styles[int(np.argmax(liked))]
        ring = sorted(users, key=lambda user: seed_for(seed, "ring", user))
        self.donor = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
        self.best = {user: [self._best(user, motif) for motif in range(SIZES[0])] for user in users}

    def arms(self) -> dict[str, Images]:
        """Return the arms by name."""
        return {
            ORIGINAL: original(TrueTaste(self.truth)),
            "fitting": self._arm(lambda user, motif: self.best[user][motif], lambda user: user),
            "swapped": self._arm(lambda user, motif: self.best[user][motif], lambda user: self.donor[user]),
            "constant": self._arm(lambda user, motif: self.popular, lambda user: user),
            "random": self._arm(lambda user, motif: None, lambda user: user),
        }

    def _arm(self, style: Any, made_for: Any) -> Images:
        def shown(users: Sequence[str], items: Sequence[str]) -> tuple[np.ndarray, list[str]]:
            motifs = self.truth.attributes_of(items)[:, 0]
            looks = [
                self._drawn(made_for(user), item, int(motif), style(made_for(user), int(motif)))
                for user, item, motif in zip(users, items, motifs, strict=True)
            ]
            return self.truth.utility(users, np.stack(looks)), [""] * len(users)

        return shown

    def _drawn(self, user: str, item: str, motif: int, style: np.ndarray | None) -> np.ndarray:
        rng = numpy_rng(self.seed, "stand-in", user, item)
        look = rng.integers(SIZES)
        meant = rng.random(4) < np.array([CONTENT, *[ACCURACY] * 3])
        wanted = look if style is None else np.array([motif, *style])
        look[meant] = wanted[meant]
        look[0] = motif if meant[0] else look[0]
        return look

    def _utilities(self, user: str, motif: int) -> np.ndarray:
        looks = np.column_stack([np.full(len(self.styles), motif), self.styles])
        return self.truth.utility([user] * len(looks), looks)

    def _best(self, user: str, motif: int) -> np.ndarray:
        return self.styles[int(np.argmax(self._utilities(user, motif)))]


class Rates:
    """A recommender of two factors: how often an item is liked, and how often the user likes items of its motif, both smoothed.

    It learns from the simulator's own log and from the market's, in milliseconds, so that twenty worlds can be played; what users
    think of styles it does not know.
    """

    def __init__(self, truth: Truth, base: pd.DataFrame, log: pd.DataFrame) -> None:
        self.motif = dict(zip(truth.item_ids, truth.item_attributes[:, 0].tolist(), strict=True))
        known = pd.concat([base, labels(log)], ignore_index=True)
        known = known.assign(motif=known["item_id"].map(self.motif), like=known["like"].astype(float))
        self.mean = known["like"].mean()
        self.items = self._smoothed(known.groupby("item_id")["like"])
        self.motifs = self._smoothed(known.groupby(["user_id", "motif"])["like"])

    def _smoothed(self, groups: Any) -> dict[Any, float]:
        rates = (groups.sum() + PRIOR * self.mean) / (groups.count() + PRIOR)
        return rates.to_dict()

    def rank(self, users: Sequence[str], candidates: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return each user's candidates, the best first."""
        return {
            user: sorted(candidates[user], key=lambda item, user=user: -self._score(user, item))
            for user in users
        }

    def _score(self, user: str, item: str) -> float:
        return self.items.get(item, self.mean) + self.motifs.get((user, self.motif[item]), self.mean)

    def quality(self, users: Sequence[str]) -> pd.DataFrame:
        """Say nothing of held-out likes, of which there are none here."""
        return pd.DataFrame({"user_id": users, **dict.fromkeys(QUALITY, np.nan)})


def play_world(seed: int, effects: Sequence[float] = (1.0, 0.0)) -> dict[str, Any]:
    """Return the A/B tests of one world, with the effect and without."""
    size = World(USERS, ITEMS, MET)
    truth = draw_truth(size, seed)
    log = draw_interactions(truth, seed, size)
    base = pd.DataFrame({
        "user_id": log["user_id:token"], "item_id": log["item_id:token"], "like": log["rating:float"] == LIKED
    })  # fmt: skip
    users = sorted(truth.user_ids, key=lambda user: seed_for(seed, "market user", user))[:VISITORS]
    order = sorted(truth.item_ids, key=lambda item: seed_for(seed, "market candidate", item=item))
    met = base.groupby("user_id")["item_id"].agg(set)
    visits = Visits({user: [item for item in order if item not in met[user]][:30] for user in users}, 3, 2)
    arms, played = StandIns(truth, users, seed).arms(), []
    for effect in effects:
        shop = Shop(lambda who, what: base_utility(truth, who, what), PositionBased(), effect)
        world = play(shop, arms, lambda log: Rates(truth, base, log), visits, seed, f"{effect:g}")
        played.append(world.log.assign(effect=effect, world="A/B", seed=0))
    none = pd.DataFrame({name: [] for name in ("effect", "world", "round", "seed", "user_id", *QUALITY)})
    return summary(pd.concat(played, ignore_index=True), none, list(arms), "A/B", seed)


def coverage(seeds: Sequence[int]) -> dict[str, Any]:
    """Return how often intervals hold 0 in worlds without the effect, by arm and of all arms, and p-values below .05.

    The error of the share of all arms knows that a world's arms share their originals: it is one over worlds.
    """
    uplifts = [
        {arm: each["uplift"] for arm, each in play_world(seed, [0.0])["0"]["ab"].items() if arm != ORIGINAL}
        for seed in seeds
    ]
    held = pd.DataFrame([
        {arm: gain["low"] <= 0 <= gain["high"] for arm, gain in world.items()} for world in uplifts
    ])  # fmt: skip
    below = pd.DataFrame([{arm: gain["p"] < 0.05 for arm, gain in world.items()} for world in uplifts])
    return {
        "seeds": [min(seeds), max(seeds)],
        "worlds": len(held),
        "holds 0": {arm: int(held[arm].sum()) for arm in held},
        "share that holds 0": _spread(held.mean(axis=1).tolist()),
        "p below .05": {arm: int(below[arm].sum()) for arm in below},
        "uplift": {arm: _spread([world[arm]["difference"] for world in uplifts]) for arm in held},
    }


def play_trained(work: Path, seed: int) -> dict[str, Any]:
    """Return the tables of one world whose recommender is VBPR, with a shop for each arm too; one that is there is read."""
    folder = work / f"standins{seed}"
    found = folder / "market/summary.json"
    if not found.is_file():
        overrides = [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]
        api.run(str(HERE / "standins.yaml"), folder, overrides, until="features")
        run = RunContext(load_config(str(folder / "config.yaml")), folder)
        truth = Truth.load(folder / "dataset/simulator")
        play_worlds(run, truth, StandIns(truth, list(candidates(run)), seed).arms())
    return json.loads(found.read_text(encoding="utf-8"))["effects"]


def over_seeds(played: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return over the seeds, by effect and arm, what the A/B tests and the worlds of each arm found."""
    first = next(iter(played.values()))
    found: dict[str, Any] = {"seeds": list(played)}
    for effect in first:
        tables = [each[effect] for each in played.values()]
        found[f"effect {effect}"] = {arm: _over_seeds(tables, arm) for arm in first[effect]["ab"]}
    return found


def _over_seeds(tables: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    rows = [each["ab"][arm] for each in tables]
    found: dict[str, Any] = {"clicks": _spread([row["clicks"]["value"] for row in rows])}
    values = [(each["values"][arm], each["ab"][arm]["expected"] / 10_000) for each in tables]
    for name in ("ips", "snips", "replay"):
        found[f"{name} holds the truth"] = sum(
            each[name]["low"] <= truth <= each[name]["high"] for each, truth in values
        )
    if arm == ORIGINAL:
        return found
    gains = [row["uplift"] for row in rows]
    truths = [each["ab"][arm]["expected"] - each["ab"][ORIGINAL]["expected"] for each in tables]
    found |= {
        "uplift": _spread([gain["difference"] for gain in gains]),
        "expected uplift": _spread(truths),
        "half width": _spread([(gain["high"] - gain["low"]) / 2 for gain in gains]),
        "holds 0": sum(gain["low"] <= 0 <= gain["high"] for gain in gains),
        "above 0": sum(gain["low"] > 0 for gain in gains),
        "holds the expected": sum(
            gain["low"] <= truth <= gain["high"] for gain, truth in zip(gains, truths, strict=True)
        ),
    }
    for metric in QUALITY if tables[0]["worlds"] else ():
        over = [each["worlds"][arm]["quality"][metric]["over_original"] for each in tables]
        found[f"{metric} over original"] = {
            **_spread([each["difference"] for each in over]),
            "holds 0": sum(each["low"] <= 0 <= each["high"] for each in over),
        }
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the mean over seeds and its standard error."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {"mean": float(f"{np.mean(values):.4g}"), "error": float(f"{error:.3g}")}


def drawn(work: Path, seed: int) -> dict[str, Any]:
    """Return the tables of one world in which taste draws what pages show; what is drawn already is not drawn again."""
    folder = work / f"drawn{seed}"
    overrides = [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]
    api.run(str(HERE / "drawn.yaml"), folder, overrides, until="generator.fit")
    return api.market(folder)["effects"]


def main() -> None:
    """Measure one of the four and keep it in result.json beside the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["standins", "coverage", "trained", "drawn"])
    parser.add_argument("--work", type=Path, default=Path("runs/market"))
    parser.add_argument("--seeds", type=int, default=20, help="how many worlds")
    given = parser.parse_args()
    path = HERE / "result.json"
    if given.what == "drawn":
        measured = over_seeds({seed: drawn(given.work, seed) for seed in range(1, given.seeds + 1)})
    elif given.what == "trained":
        measured = over_seeds({seed: play_trained(given.work, seed) for seed in range(given.seeds)})
    elif given.what == "coverage":
        measured = coverage(range(FURTHER, FURTHER + given.seeds))
    else:
        measured = over_seeds({seed: play_world(seed) for seed in range(given.seeds)})
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, result | {given.what: measured})


if __name__ == "__main__":
    main()
