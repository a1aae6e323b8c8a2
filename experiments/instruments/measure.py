"""Do the tests of a report call wolf, and do its intervals hold what they say? Counted on simulated runs of arrays.

``python -m experiments.instruments.measure`` writes result.json: for each test the share of p-values at or below .05 over null
runs, which has to lie between 3 and 7%, and for each population and number of users how often a 95% interval holds the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.metrics import statistics
from recgen.metrics.contrasts import claims, contrasts, corrected
from recgen.metrics.permutation import permutation_within_items
from recgen.metrics.resampling import RESAMPLES

RUNS = 1000
ITEMS, PER_ITEM, USERS = 30, 4, 60
GENERATORS = 8
SIZES = (40, 120, 400)
SEED = 2026


def requests(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of a run: four users an item, a user for several items."""
    users = np.concatenate([rng.choice(USERS, PER_ITEM, replace=False) for _ in range(ITEMS)])
    return users, np.repeat(np.arange(ITEMS), PER_ITEM)


def worth(rng: np.random.Generator, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return what any image does for these users and items: that it lifts the item, by how much for whom and what."""
    return 1.0 + rng.normal(size=USERS)[users] + rng.normal(size=ITEMS)[items]


def measured(
    rng: np.random.Generator, users: np.ndarray, items: np.ndarray, base: np.ndarray
) -> pd.DataFrame:
    """Return the metric of images that know nothing of their users: `base` and a skewed chance of each, as Delta R has it."""
    value = base + 1 - rng.lognormal(sigma=0.7, size=len(users))
    return pd.DataFrame({"user_id": users, "item_id": items, "percentile_gain_judge": value})


def own_minus_swapped(rng: np.random.Generator, run: int) -> float:
    """Images that lift every item, against other users' by the same generator: p of the primary contrast."""
    users, items = requests(rng)
    base = worth(rng, users, items)
    own, swapped = (measured(rng, users, items, base) for _ in range(2))
    (entry,) = contrasts({"g": own}, {"g": swapped}, {}, "p", run)
    return float(entry["p"])


def net_of_placebo(rng: np.random.Generator, run: int) -> float:
    """A generator that only selects among noises, against the placebo, which does the same: p of the net contrast."""
    users, items = requests(rng)
    base, gain = worth(rng, users, items), 0.5
    mine, placebo = (measured(rng, users, items, base + gain) for _ in range(2))
    theirs, swapped = (measured(rng, users, items, base) for _ in range(2))
    found = contrasts({"g": mine}, {"g": theirs, "p": swapped}, {"p": placebo}, "p", run)
    return float(next(entry["p"] for entry in found if entry["kind"] == "net of placebo"))


def family_of_claims(rng: np.random.Generator, run: int) -> float:
    """Eight generators that only select among noises, as the placebo that all share: the smallest p of the corrected claims.

    The primary one's, the first generator's, is `net_of_placebo`.
    """
    users, items = requests(rng)
    base, gain = worth(rng, users, items), 0.5
    named = [f"g{number}" for number in range(GENERATORS)]
    own = {name: measured(rng, users, items, base + gain) for name in [*named, "p"]}
    theirs = {name: measured(rng, users, items, base) for name in [*named, "p"]}
    placebo = {"p": own.pop("p")}
    found = claims(list(contrasts(own, theirs, placebo, "p", run)))
    return min(p for name, p in found.items() if name != named[0] and p is not None)


def paired_generators(rng: np.random.Generator, run: int) -> float:
    """Two generators that are alike: p of their paired difference."""
    users, items = requests(rng)
    base = worth(rng, users, items)
    a, b = (measured(rng, users, items, base)["percentile_gain_judge"] for _ in range(2))
    return float(statistics.paired_difference(a, b, users, run).p)  # type: ignore[arg-type]


def permutation(rng: np.random.Generator, run: int) -> float:
    """Images of one item are alike but for chance; users like items and items are liked: p of the permutation within items."""
    groups = [
        rng.normal(size=(PER_ITEM, 1))
        + rng.normal()
        + rng.normal(size=PER_ITEM)
        + rng.normal(size=(PER_ITEM, PER_ITEM))
        for _ in range(ITEMS)
    ]
    found = permutation_within_items(groups, run, 500)
    assert found is not None
    return found.p


def five_seeds(rng: np.random.Generator, run: int) -> float:
    """Five trainings with and without images that change nothing: p of the paired t-test."""
    a, b = rng.normal(0.06, 0.002, size=(2, 5))
    return float(statistics.paired_seeds(a, b).p)  # type: ignore[arg-type]


def family_of_forty(rng: np.random.Generator, run: int) -> float:
    """Forty true nulls beside the primary contrast: the smallest corrected p."""
    tests: list[dict[str, Any]] = [{"p": float(p)} for p in rng.uniform(size=40)]
    return min(test["p_holm"] for test in corrected(tests))


TESTS: dict[str, Callable[[np.random.Generator, int], float]] = {
    "own minus swapped": own_minus_swapped,
    "net of placebo": net_of_placebo,
    "any claim of seven others, after Holm": family_of_claims,
    "paired generators": paired_generators,
    "permutation within items": permutation,
    "paired t over five seeds": five_seeds,
    "any of forty, after Holm": family_of_forty,
}


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n standard normal values."""
    return rng.normal(size=n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n values with a long left tail: 1 minus a lognormal."""
    return 1 - rng.lognormal(size=n)


def delta_r(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n values of Delta R: places of all heights that move by a factor."""
    before = np.floor(np.exp(rng.uniform(0, 6, n)))
    after = np.floor(before * np.exp(rng.normal(-0.1, 0.6, n)))
    return (before - after) / (1 + before)


def share(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n zeros and ones, one in ten of them one."""
    return (rng.uniform(size=n) < 0.1).astype(float)


POPULATIONS = {"normal": normal, "skewed": skewed, "Delta R": delta_r, "a share of one in ten": share}


def percentile(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the percentile interval that the studentised one replaced."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage(name: str, users: int, runs: int) -> dict[str, Any]:
    """Return how often both intervals hold the population's mean, and the mean width of the studentised one."""
    draw = POPULATIONS[name]
    truth = float(draw(numpy_rng(SEED, f"truth {name}"), 4_000_000).mean())
    held, held_before, widths = 0, 0, []
    for run in range(runs):
        values = draw(numpy_rng(SEED, f"coverage {name} {users}", str(run)), users)
        found = statistics.bootstrap_mean(values, np.arange(users), run)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
        low, high = percentile(values, run)
        held_before += low <= truth <= high
        widths.append(found.high - found.low)
    return {"studentised": held / runs, "percentile": held_before / runs, "width": float(np.mean(widths))}


def main(folder: Path, runs: int = RUNS) -> None:
    """Count, and write result.json."""
    false = {}
    for name, test in TESTS.items():
        p = np.array([test(numpy_rng(SEED, name, str(run)), run) for run in range(runs)])
        false[name] = float((p <= 0.05).mean())
        print(f"{name}: {100 * false[name]:.1f}% false at .05", flush=True)
    held = {name: {str(users): coverage(name, users, runs) for users in SIZES} for name in POPULATIONS}
    for name, by_size in held.items():
        print(name, {users: found["studentised"] for users, found in by_size.items()}, flush=True)
    write_json(
        folder / "result.json", {"runs": runs, "false positives at .05": false, "coverage of 95%": held}
    )


if __name__ == "__main__":
    main(Path(__file__).parent, int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
