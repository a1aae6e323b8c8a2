"""Do our off-policy estimates equal those of the Open Bandit Pipeline (Saito, Aihara, Matsutani and Narita 2021)?

Logs of two policies: one that draws an action with equal probabilities, one that prefers some. A policy to be valued that always
takes one action, and one that draws. Every estimate of `recgen.metrics.off_policy` is compared with the one of the same name.

    pip install --no-deps --target somewhere obp seaborn mypy_extensions
    PYTHONPATH=somewhere python -m experiments.learning.reference
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from obp.ope import (
    DoublyRobust,
    InverseProbabilityWeighting,
    ReplayMethod,
    SelfNormalizedInverseProbabilityWeighting,
)

from recgen.core.io import write_json
from recgen.metrics.off_policy import doubly_robust, ips, replay, snips

HERE = Path(__file__).parent
LOGS, EVENTS, ACTIONS = 20, 3_000, 4


def log(seed: int, equal: bool) -> dict[str, Any]:
    """Return a log: actions, rewards, propensities, users, and predicted rewards float64 ``[events, actions]``."""
    rng = np.random.default_rng(seed)
    chances = (
        np.full((EVENTS, ACTIONS), 1 / ACTIONS) if equal else rng.dirichlet(np.full(ACTIONS, 3.0), EVENTS)
    )
    chances = (chances + 0.05) / (1 + 0.05 * ACTIONS)
    actions = (chances.cumsum(axis=1) < rng.random(EVENTS)[:, None]).sum(axis=1)
    rates = rng.beta(2, 5, (EVENTS, ACTIONS))
    rows = np.arange(EVENTS)
    return {
        "action": actions,
        "reward": (rng.random(EVENTS) < rates[rows, actions]).astype(np.int64),
        "pscore": chances[rows, actions],
        "users": rng.integers(0, 200, EVENTS),
        "predicted": np.clip(rates + rng.normal(0, 0.1, rates.shape), 0, 1),
    }


def compared(seed: int, equal: bool, always: bool) -> dict[str, float]:
    """Return by estimator our value less the library's."""
    found, rows = log(seed, equal), np.arange(EVENTS)
    rng = np.random.default_rng(seed + 10_000)
    policy = np.eye(ACTIONS)[np.full(EVENTS, 1)] if always else rng.dirichlet(np.ones(ACTIONS), EVENTS)
    taken, predicted = found["action"], found["predicted"]
    given = {"reward": found["reward"], "action": taken, "action_dist": policy[:, :, None]}
    known = given | {"pscore": found["pscore"], "position": np.zeros(EVENTS, dtype=np.int64)}
    told = found["reward"], found["pscore"], policy[rows, taken]
    of_users = found["users"], seed
    predictions = predicted[rows, taken], (policy * predicted).sum(axis=1)
    pairs = {
        "IPS": (ips(*told, *of_users), InverseProbabilityWeighting().estimate_policy_value(**known)),
        "SNIPS": (
            snips(*told, *of_users),
            SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**known),
        ),
        "DR": (
            doubly_robust(*told, *predictions, *of_users),
            DoublyRobust().estimate_policy_value(
                **known, estimated_rewards_by_reg_model=predicted[:, :, None]
            ),
        ),
    }
    if equal and always:
        position = {"position": known["position"]}
        pairs["replay"] = replay(*told, *of_users), ReplayMethod().estimate_policy_value(**given, **position)
    return {name: float(ours.value or 0.0) - float(theirs) for name, (ours, theirs) in pairs.items()}


def main() -> None:
    """Compare, and write reference.json."""
    worst: dict[str, float] = {}
    for equal in (True, False):
        for always in (True, False):
            for seed in range(LOGS):
                for name, gap in compared(seed, equal, always).items():
                    worst[name] = max(worst.get(name, 0.0), abs(gap))
    write_json(
        HERE / "reference.json",
        {"obp": version("obp"), "logs": 4 * LOGS, "events": EVENTS, "largest difference": worst},
    )
    print(worst)


if __name__ == "__main__":
    main()
