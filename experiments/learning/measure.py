"""Which image to show while it is learned what each is worth: Thompson sampling beside always the same arm, over rounds.

Worlds of stand-ins (as in `experiments/market`): nothing is drawn, an arm's pictures are attributes. Arms of every item are the
item's own image (`original`), the picture that fits the representative of the user's group of 8 (`group`) and the one that fits
the user (`own`). In each of 20 rounds 60 visitors meet 10 of 30 items they have not met before, in a random order of places, and
click by the position-based model. Thompson sampling (`recgen.metrics.thompson`) learns after each round. Every policy has clicks
of its own: common ones would make worlds without an effect equal to the last click, and a control that cannot fail.

Three worlds: pictures matter as in the simulator's log (effect 1); they do not (0); they do, but creatives are made for somebody
else (`somebody else's`). Differences are over worlds, with intervals by t. `off-policy` says how well Thompson sampling's
own log values always showing an arm: how many intervals of 95% hold the truth.

    python -m experiments.learning.measure
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from experiments.market.measure import ITEMS, MET, USERS, VISITORS, StandIns
from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.simulation.click_models import PositionBased
from recgen.data.simulation.market import base_utility
from recgen.data.simulation.simulator import Truth, World, draw_truth
from recgen.features.k_means import k_means
from recgen.metrics.off_policy import arm_values
from recgen.metrics.statistics import paired_seeds, seed_mean
from recgen.metrics.thompson import ThompsonSampling, choose

HERE = Path(__file__).parent
ARMS = ("original", "group", "own")
ROUNDS, PLACES, CANDIDATES, GROUPS = 20, 10, 30, 8
PER = 1_000
"""Impressions that clicks are counted by."""
WORLDS = {"matters": (1.0, False), "nothing matters": (0.0, False), "somebody else's": (1.0, True)}
"""Effect of the picture, and whether creatives are made for somebody else."""


class Shop:
    """What visitors think of the pictures of some items: attraction float64 ``[visitors, candidates, arms]``.

    Parameters
    ----------
    seed
        Of the world.
    effect, poor
        See `WORLDS`.
    """

    def __init__(self, seed: int, effect: float, poor: bool) -> None:
        truth = draw_truth(World(USERS, ITEMS, MET), seed)
        users = sorted(truth.user_ids, key=lambda user: seed_for(seed, "market user", user))[:VISITORS]
        items = sorted(truth.item_ids, key=lambda item: seed_for(seed, "market candidate", item=item))[
            :CANDIDATES
        ]
        stand_ins = StandIns(truth, users, seed)
        who = {"own": dict(zip(users, users, strict=True)), "group": _representatives(truth, users, seed)}
        if poor:
            who = {arm: {user: stand_ins.donor[of[user]] for user in users} for arm, of in who.items()}
        pairs = [(user, item) for user in users for item in items]
        asked, shown = [user for user, _ in pairs], [item for _, item in pairs]
        base = base_utility(truth, asked, shown)
        utilities = [truth.utility(asked, truth.attributes_of(shown), truth.factors_of(shown))]
        for arm in ARMS[1:]:
            motifs = truth.attributes_of(shown)[:, 0]
            looks = [
                stand_ins._drawn(who[arm][user], item, int(motif), stand_ins.best[who[arm][user]][int(motif)])
                for (user, item), motif in zip(pairs, motifs, strict=True)
            ]
            utilities.append(truth.utility(asked, np.stack(looks)))
        logits = (1 - effect) * base[:, None] + effect * np.stack(utilities, axis=1)
        self.attraction = expit(logits).reshape(len(users), len(items), len(ARMS))


def _representatives(truth: Truth, users: list[str], seed: int) -> dict[str, str]:
    """Return for each visitor the one nearest to the mean of the visitor's group, by true taste in style."""
    rows = [truth.user_ids.index(user) for user in users]
    points = truth.style[rows, 0].astype(np.float32)
    centres, members = k_means(points, GROUPS, seed_for(seed, "groups"))
    distance = np.square(points - centres[members]).sum(axis=1)
    nearest = {
        group: min(np.flatnonzero(members == group), key=lambda row: distance[row])
        for group in np.unique(members)
    }
    return {user: users[nearest[group]] for user, group in zip(users, members, strict=True)}


def play(shop: Shop, policy: str, seed: int) -> pd.DataFrame:
    """Return the log of one policy: ``thompson``, or the name of the arm that is always shown."""
    rng, learner = numpy_rng(seed, f"policy {policy}"), ThompsonSampling(CANDIDATES, ARMS)
    visitors, log = np.repeat(np.arange(VISITORS), PLACES), []
    places = np.tile(np.arange(1, PLACES + 1), VISITORS)
    looked = PositionBased().expected(np.ones((1, PLACES)))[0][places - 1]
    for number in range(ROUNDS):
        items = np.concatenate([rng.permutation(CANDIDATES)[:PLACES] for _ in range(VISITORS)])
        if policy == "thompson":
            chances = learner.probabilities(items, rng)
        else:
            chances = np.tile(np.array(ARMS) == policy, (len(items), 1)).astype(float)
        arms = choose(chances, rng.random(len(items)))
        expected = looked * shop.attraction[visitors, items, arms]
        clicks = rng.random(len(items)) < expected
        learner.update(items, arms, clicks)
        log.append(pd.DataFrame({
            "user_id": visitors, "item_id": items, "round": number, "position": places, "arm": np.array(ARMS)[arms],
            "propensity": chances[np.arange(len(items)), arms], "click": clicks, "expected": expected,
        }))  # fmt: skip
    return pd.concat(log, ignore_index=True)


def of_world(seed: int, effect: float, poor: bool) -> dict[str, Any]:
    """Return clicks per 1,000 impressions of every policy, Thompson sampling's over rounds, and what its log says of each arm."""
    shop = Shop(seed, effect, poor)
    logs = {policy: play(shop, policy, seed) for policy in ("thompson", *ARMS)}
    looked = PositionBased().expected(np.ones((1, PLACES)))[0].mean()
    truth = looked * shop.attraction.mean(axis=(0, 1))
    values = arm_values(logs["thompson"], seed)
    held = {
        f"{estimator} {arm}": values[arm][estimator]["low"] <= truth[column] <= values[arm][estimator]["high"]
        for column, arm in enumerate(ARMS)
        for estimator in ("ips", "snips", "dr")
        if arm in values
    }
    by_round = logs["thompson"].groupby("round")
    return {
        "clicks": {policy: float(PER * log["click"].mean()) for policy, log in logs.items()},
        "expected": {policy: float(PER * log["expected"].mean()) for policy, log in logs.items()},
        "over rounds": (PER * by_round["click"].mean()).tolist(),
        "own shown": by_round["arm"].agg(lambda arms: (arms == "own").mean()).tolist(),
        "held": held,
    }


def measured(seeds: int) -> dict[str, Any]:
    """Return all figures, world by world."""
    found: dict[str, Any] = {"worlds": seeds, "impressions a policy": ROUNDS * VISITORS * PLACES}
    for name, (effect, poor) in WORLDS.items():
        played = [of_world(seed, effect, poor) for seed in range(seeds)]
        clicks = pd.DataFrame([each["clicks"] for each in played])
        expected = pd.DataFrame([each["expected"] for each in played])
        held = pd.DataFrame([each["held"] for each in played])
        found[name] = {
            "clicks": {policy: seed_mean(clicks[policy]).as_json() for policy in clicks},
            "expected": {policy: float(expected[policy].mean()) for policy in expected},
            "thompson over": {
                arm: paired_seeds(clicks["thompson"], clicks[arm]).as_json("thompson", arm, "clicks per 1,000") for arm in ARMS
            },
            "over rounds": np.mean([each["over rounds"] for each in played], axis=0).tolist(),
            "own shown": np.mean([each["own shown"] for each in played], axis=0).tolist(),
            "off-policy": {key: int(held[key].sum()) for key in held},
        }  # fmt: skip
    return found


def main() -> None:
    """Measure what the command line asks for and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many worlds")
    text = json.dumps(measured(parser.parse_args().seeds))
    write_json(HERE / "result.json", json.loads(text, parse_float=lambda x: float(f"{float(x):.4g}")))


if __name__ == "__main__":
    main()
