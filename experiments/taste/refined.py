"""What the reward's gradient adds to `taste`, climbed for each request or learned beforehand, against choosing at the same cost.

Usage: python -m experiments.taste.refined [--work FOLDER] [--seeds 1 2 3 4 5] [--only-collect]

Verifier at 200 encounters, tastes in words and in factors. Settings were chosen on seed 900 by `choose_refined`. Corrections are
learned from pairs of users and items none of which is reported on. Every world and seed that is finished is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import harness
from experiments.taste.arms import FIXED, FIXED_FACTORS
from experiments.taste.uphill import CORRECTIONS, Images, Uphill, timed
from experiments.taste.worlds import WORLDS, Measured, World, prepared
from generators.common.settings import Refinement
from recgen.core.io import read_json, write_json, write_parquet

HERE = Path(__file__).parent
NAMES = ("verifier-200", "factors-200")
SEEDS, REQUESTS = (1, 2, 3, 4, 5), 30
METRICS = ("gain", "content", "reward", "opinion")
REFINED = Refinement(steps=9)
PAIRS = 512
CLIMBED = ("opinion", "pessimist")
"""What `refine` climbs; corrections learn to climb the first."""


def main() -> None:
    """Draw every arm of every seed that is not there yet and write refined.json."""
    given = harness.arguments(__doc__ or "", SEEDS)
    work = given.work / "taste_refined"
    for seed in [] if given.only_collect else given.seeds:
        for world in WORLDS:
            if world.name in NAMES and not _finished(work, world.name, seed):
                _measure(work, world, seed)
        harness.save(_collected(work, given.seeds), work / "refined.json")
    harness.save(_collected(work, given.seeds), HERE / "refined.json")


def _folder(work: Path, world: str, seed: int) -> Path:
    return work / f"{world}/seed{seed}"


def _finished(work: Path, world: str, seed: int) -> bool:
    return (_folder(work, world, seed) / f"corrected, {CORRECTIONS[-1]}.parquet").exists()


def _measure(work: Path, world: World, seed: int) -> None:
    """Draw and measure the arms of one world and seed."""
    run = prepared(work, world, seed)
    requests = run.requests[:REQUESTS]
    strength = (FIXED if world.tastes_in == "words" else FIXED_FACTORS)["both"]
    uphill, measured = Uphill(run, requests, strength), Measured(run, requests)
    folder, bounds = _folder(work, world.name, seed), measured.bounds()["ceiling"]
    file = folder / "seconds.json"
    seconds: dict[str, float] = read_json(file) or {}
    for name, draw in _arms(uphill):
        if (folder / f"{name}.parquet").exists():
            continue
        images, spent = draw()
        table = measured.table(images).assign(ceiling=bounds)
        for by in ("reward", "opinion"):
            table[by] = uphill.scores(by, images)
        write_parquet(folder / f"{name}.parquet", table)
        seconds[name] = spent
        write_json(file, seconds)
        means = table[list(METRICS)].mean().round(3).to_dict()
        print(world.name, seed, name, means, round(spent), flush=True)


def _arms(uphill: Uphill) -> Iterator[tuple[str, Callable[[], tuple[Images, float]]]]:
    """Yield every arm's name, and what returns its images and CPU seconds; the first corrections' have the learning's in them."""
    yield "taste", lambda: timed(lambda: uphill.own)
    for kind in ("noises", "conditions"):
        for by in uphill.climbed:
            yield f"best of 8 {kind} by {by}", partial(_best, uphill, kind, by)
    for by in CLIMBED:
        yield f"refined by {by}", partial(timed, partial(uphill.refined, by, REFINED))
    changes = cache(lambda: uphill.corrections(uphill.learned(CLIMBED[0], PAIRS, REFINED)))
    for whose in CORRECTIONS:
        yield f"corrected, {whose}", partial(timed, lambda whose=whose: uphill.moved(changes()[whose]))


def _best(uphill: Uphill, kind: str, by: str) -> tuple[Images, float]:
    rounds, spent = uphill.noises if kind == "noises" else uphill.looks
    images, more = timed(partial(uphill.best, rounds, by))
    return images, spent + more


def _collected(work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the tables of the seeds that are finished, by world."""
    found: dict[str, Any] = {}
    for world in NAMES:
        done = [seed for seed in seeds if _finished(work, world, seed)]
        if done:
            found[world] = _of_world([_folder(work, world, seed) for seed in done])
    return {
        "requests per seed": REQUESTS,
        "pairs learned from": PAIRS,
        "climbed by corrections": CLIMBED[0],
        "worlds": found,
    }


def _of_world(folders: Sequence[Path]) -> dict[str, Any]:
    seconds = [read_json(folder / "seconds.json") or {} for folder in folders]
    tables = {
        arm: pd.concat([pd.read_parquet(folder / f"{arm}.parquet") for folder in folders], ignore_index=True)
        for arm in seconds[0]
    }
    return {
        "seconds of learning": sum(each["corrected, own"] - each["taste"] for each in seconds) / len(seconds),
        "ceiling": harness.means(tables["taste"], ("ceiling",))["ceiling"],
        "arms": {
            arm: {
                **harness.means(rows, METRICS),
                "seconds a request": sum(_seconds(each, arm) for each in seconds) / len(rows),
            }
            for arm, rows in tables.items()
        },
        "paired": {
            f"{a} - {b}": harness.paired(tables[a], tables[b], METRICS)
            for a, others in _compared(tables).items()
            for b in others
        },
    }


def _seconds(each: dict[str, float], arm: str) -> float:
    """Return an arm's CPU seconds: what the best of 8 share with taste counts to both, and learning to neither."""
    more = {"best": each["taste"], "corr": each["taste"] - each[arm]}
    return each[arm] + more.get(arm[:4], 0.0)


def _compared(tables: Iterable[str]) -> dict[str, list[str]]:
    """Return which arms are compared with which: all with taste, and the gradient with choosing and with its placebos."""
    best = [arm for arm in tables if arm.startswith("best")]
    placebos = [arm for arm in tables if arm.startswith("corrected") and arm != "corrected, own"]
    more = {arm: best for arm in tables if arm.startswith("refined")} | {"corrected, own": [*best, *placebos]}
    return {arm: ["taste", *more.get(arm, [])] for arm in tables if arm != "taste"}


if __name__ == "__main__":
    main()
