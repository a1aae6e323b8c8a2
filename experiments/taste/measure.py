"""Compare `taste` with what it has to beat and with placebos, on simulated users whose true taste is known.

Usage: python -m experiments.taste.measure [--work FOLDER] [--seeds 1 2 3 4 5] [--worlds factors-200 ...] [--only-collect]

Every (world, seed, arm) that is finished is kept, so that the command can be stopped and called again; result.json holds what is
finished, and of worlds that are not asked for what it held before. Seeds 1 to 5 were never used to choose anything; settings were
chosen on seed 900.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments import harness
from experiments.taste.arms import FIXED, FIXED_FACTORS, Arms
from experiments.taste.worlds import WORLDS, Measured, World, prepared, shuffled
from generators.taste.kept import Strength
from recgen.core.io import write_json, write_parquet
from recgen.metrics.statistics import seed_mean

HERE = Path(__file__).parent
SEEDS, REQUESTS = (1, 2, 3, 4, 5), 100
METRICS = ("gain", "content", "content_proxy")
CORE = ("both", "text", "ip_adapter_mean", "contrast_shown", "without_reward")
PLACEBOS = ("everybody", "swapped", "shuffled")
VARIANTS = ("best_of_4", "best_of_4_kept", "kept", "words", "image")
"""Arms of the worlds of Verifier at 200 encounters, as the placebos are."""
ROUNDS = (CORE, PLACEBOS, VARIANTS)
SAME_DATA = ("text", "ip_adapter_mean", "contrast_shown", "without_reward")
"""Arms that ask no ranking model: in the world of MICRO they are those of the same encounters with Verifier."""


def main() -> None:
    """Run what is not finished, the arms that matter most first, and write result.json after each round of a seed."""
    given = harness.arguments(__doc__ or "", SEEDS, [world.name for world in WORLDS])
    work, worlds = given.work / "taste", [world for world in WORLDS if world.name in given.worlds]
    for arms in [] if given.only_collect else ROUNDS:
        for seed in given.seeds:
            for world in worlds:
                run_world(work, world, seed, [arm for arm in arms if arm in wanted(world)])
            harness.save(collect(work, given.seeds, worlds), work / "result.json")
    harness.save(collect(work, given.seeds, worlds), HERE / "result.json")


def wanted(world: World) -> tuple[str, ...]:
    """Return a world's arms."""
    if world.model == "MICRO":
        return ("both",)
    return (*CORE, *PLACEBOS, *VARIANTS) if world.encounters == 200 else CORE


def strengths(world: World) -> dict[str, Strength]:
    """Return the strengths of a world's arms."""
    return FIXED if world.tastes_in == "words" else FIXED_FACTORS


def run_world(work: Path, world: World, seed: int, names: Sequence[str]) -> None:
    """Draw and measure those of some arms of one world and seed that are not there yet."""
    folder = work / f"{world.name}/seed{seed}"
    left = [arm for arm in names if not (folder / f"{arm}.parquet").exists()]
    if not left:
        return
    run = prepared(work, world, seed)
    requests = run.requests[:REQUESTS]
    measured, arms = Measured(run, requests), Arms(run, requests, strengths(world))
    bounds = measured.bounds()
    users = [f"{seed}/{request.user_id}" for request in requests]
    write_parquet(folder / "bounds.parquet", pd.DataFrame({"user_id": users, "seed": seed, **bounds}))
    draws = arms.by_name(lambda: shuffled(work, run))
    for arm in left:
        write_parquet(folder / f"{arm}.parquet", measured.table(draws[arm]()))
        print(f"{world.name} seed {seed}: {arm} done", flush=True)
        write_json(folder / "learned.json", {**_known(folder), **arms.learned()})


def _known(folder: Path) -> dict[str, Any]:
    path = folder / "learned.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def collect(work: Path, seeds: Sequence[int], worlds: Sequence[World]) -> dict[str, Any]:
    """Return the tables of everything that is finished, by world; of other worlds than those asked for, as they are on record."""
    before = json.loads((HERE / "result.json").read_text(encoding="utf-8"))["worlds"]
    found = {
        world.name: _collected(work, world, seeds) if world in worlds else before.get(world.name)
        for world in WORLDS
    }
    return {
        "requests per seed": REQUESTS,
        "strengths of all arms but kept": {show: each.as_json() for show, each in FIXED.items()},
        "the same where tastes are in factors": {
            show: each.as_json() for show, each in FIXED_FACTORS.items()
        },
        "worlds": {name: each for name, each in found.items() if each},
    }


def _collected(work: Path, world: World, seeds: Sequence[int]) -> dict[str, Any]:
    tables = {arm: _rows(work, _home(world, arm), seeds, arm) for names in ROUNDS for arm in names}
    tables = {arm: rows for arm, rows in tables.items() if len(rows)}
    bounds = _rows(work, world.name, seeds, "bounds")
    if "both" not in tables or not len(bounds):
        return {}
    if world.model == "MICRO":
        tables = {arm: rows for arm, rows in tables.items() if arm in (*wanted(world), *SAME_DATA)}
    arms = {
        arm: {
            **harness.means(rows, METRICS),
            "gain over seeds": seed_mean(rows.groupby("seed")["gain"].mean()).as_json(),
            "share of the ceiling": _share(rows, bounds),
        }
        for arm, rows in tables.items()
    }
    against = {
        f"{arm} - {other}": harness.paired(tables[arm], tables[other], ("gain", "content"))
        for arm in ("both", "best_of_4", "best_of_4_kept", "kept", "words", "image", "swapped", "shuffled")
        for other in ("text", "ip_adapter_mean", "contrast_shown", "without_reward", "everybody", "both")
        if arm != other and arm in tables and other in tables
    }
    return {
        "ceiling": harness.means(bounds, ("ceiling",))["ceiling"],
        "the best single style for everybody, drawn without fault": harness.means(bounds, ("constant",))[
            "constant"
        ],
        "arms": arms,
        "paired": against,
        "what was believed": {
            str(seed): {
                name: {
                    key: each[key]
                    for key in (("trust", "strength", "text_kept") if name == "kept" else ("trust",))
                }
                for name, each in _known(work / f"{world.name}/seed{seed}").items()
            }
            for seed in seeds
        },
        "content: proxy and truth agree on": _agreement(tables),
    }


def _home(world: World, arm: str) -> str:
    return "verifier-200" if world.model == "MICRO" and arm in SAME_DATA else world.name


def _rows(work: Path, world: str, seeds: Sequence[int], name: str) -> pd.DataFrame:
    paths = [work / f"{world}/seed{seed}/{name}.parquet" for seed in seeds]
    frames = [pd.read_parquet(path) for path in paths if path.exists()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _share(rows: pd.DataFrame, bounds: pd.DataFrame) -> dict[str, float]:
    """Return the mean gain over the mean ceiling of the same requests, with its 95% bootstrap interval over users."""
    both = rows.merge(bounds[["user_id", "ceiling"]], on="user_id")
    gains, ceilings = both["gain"].to_numpy(), both["ceiling"].to_numpy()
    picks = np.random.default_rng(0).integers(0, len(both), (2000, len(both)))
    shares = gains[picks].mean(axis=1) / ceilings[picks].mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return {"share": gains.mean() / ceilings.mean(), "low": low, "high": high}


def _agreement(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Return how often the proxy says of an image what the truth says, and the same of what each says is kept, over all arms."""
    every = pd.concat(tables.values())
    return {
        "images": len(every),
        "alike": float((every["content"] == every["content_proxy"]).mean()),
        "kept by the truth": float(every["content"].mean()),
        "kept by the proxy": float(every["content_proxy"].mean()),
    }


if __name__ == "__main__":
    main()
