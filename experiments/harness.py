"""What the experiments share: arms of a study run one after the other in one folder per seed, and paired over them.

An arm is a set of overrides of one recipe. All arms of a seed share its data set, features and ranking models, because recgen
runs again only what an override touches.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen import api as session
from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.data.simulation.simulator import Truth, true_auc
from recgen.metrics.registry import SHARE
from recgen.metrics.statistics import bootstrap_mean, paired_difference
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import held_out

Arms = Mapping[str, Sequence[str]]
SHARES = ("content", "content_proxy", "content_preservation")
"""Metrics that are shares of images: no interval of theirs reaches beyond 0 and 1."""


def arguments(
    description: str, seeds: Sequence[int], worlds: Sequence[str] | None = None
) -> argparse.Namespace:
    """Read --work (where runs go), --seeds, --only-collect and, of a study of several worlds, --worlds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(seeds))
    parser.add_argument(
        "--only-collect", action="store_true", help="tables of finished runs again; runs nothing"
    )
    if worlds is not None:
        parser.add_argument("--worlds", nargs="*", choices=worlds, default=list(worlds))
    return parser.parse_args()


def run_seeds(
    given: argparse.Namespace,
    recipe: str,
    work: Path,
    arms: Arms,
    shared: Sequence[str] = (),
    until: str = "evaluate",
    seeds: Sequence[int] | None = None,
) -> None:
    """Run every arm of every seed of a recipe beside this file, unless only tables were asked for.

    Each seed of the simulated recipe has users and items of its own.
    """
    if given.only_collect:
        return
    for seed in given.seeds if seeds is None else seeds:
        own = [f"recgen.simulator.seed={seed}"] if recipe == "simulated.yaml" else []
        run_arms(Path(__file__).with_name(recipe), work, seed, arms, [*own, *shared], until)


def run_arms(
    recipe: Path, work: Path, seed: int, arms: Arms, shared: Sequence[str] = (), until: str = "evaluate"
) -> None:
    """Run every arm of one seed and keep its table, metrics and training curves; arms that have them are not run again."""
    folder = work / f"seed{seed}" / "run"
    for name, overrides in arms.items():
        kept = work / f"seed{seed}" / "arms" / name
        if (kept / "per_request.parquet").exists():
            continue
        session.run(str(recipe), str(folder), [f"recgen.seed={seed}", *shared, *overrides], until)
        kept.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("generator/*/curves.json")):
            shutil.copy(path, kept / f"curves_{path.parent.name}.json")
        learned = folder / "generator/ragar/config.json"
        if learned.exists():
            shutil.copy(learned, kept / "learned.json")
        for role in ("reward", "judge"):
            shutil.copy(folder / f"ranker/{role}/training.json", kept / f"{role}.json")
        if (folder / "dataset/simulator").is_dir():
            write_json(kept / "true_auc.json", _true_auc(folder))
        if until == "report":
            shutil.copy(folder / "metrics.json", kept / "metrics.json")
        shutil.copy(folder / "per_request.parquet", kept / "per_request.parquet")


def _true_auc(folder: Path) -> float:
    """Return the true taste's AUC on the encounters that the ranking models' held-out AUC is measured on."""
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    rows = held_out(run, run.settings.ranker.verifier)
    truth = Truth.load(folder / "dataset/simulator")
    seen = truth.attributes_of(rows["item_id"].tolist())
    return true_auc(truth, rows["user_id"].tolist(), seen, rows["like"].to_numpy())


def table(work: Path, seeds: Sequence[int], arm: str, generator: str = "ragar") -> pd.DataFrame:
    """Return an arm's rows of the seeds that have it, without users that its RAGAR learned from or stopped by.

    Users are named by seed and token.
    """
    frames = []
    for seed in seeds:
        kept = work / f"seed{seed}" / "arms" / arm
        if not (kept / "per_request.parquet").exists():
            continue
        rows = pd.read_parquet(kept / "per_request.parquet")
        rows = rows[rows["generator"] == generator]
        if (kept / "learned.json").exists():
            learned = json.loads((kept / "learned.json").read_text(encoding="utf-8"))
            rows = rows[~rows["user_id"].isin([*learned["train"], *learned["held_out"]])]
        frames.append(rows.assign(user_id=f"{seed}/" + rows["user_id"], seed=seed))
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=["user_id", "item_id", "seed"])
    )


def means(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """Return each metric's mean with its bootstrap interval over users."""
    users = rows["user_id"].to_numpy()
    found = {
        name: bootstrap_mean(rows[name], users, seed=0).within(SHARE if name in SHARES else None).as_json()
        for name in metrics
        if name in rows
    }
    return {"seeds": sorted(rows["seed"].unique().tolist()), **found}


def paired(a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """Return a minus b for each metric over the requests both have answered, with interval and p."""
    both = a.merge(b, on=["user_id", "item_id"], suffixes=("_a", "_b"))
    users = both["user_id"].to_numpy()
    found = {}
    for name in metrics:
        if f"{name}_a" in both:
            result = paired_difference(both[f"{name}_a"], both[f"{name}_b"], users, seed=0)
            found[name] = {
                "difference": result.difference, "low": result.low, "high": result.high, "p": result.p, "n": result.n
            }  # fmt: skip
    return found


def auc(work: Path, seeds: Sequence[int], arm: str) -> dict[str, list[float]]:
    """Return the held-out AUC of reward and judge, and the true taste's on the same encounters, seed by seed."""
    found: dict[str, list[float]] = {"reward": [], "judge": [], "true taste": []}
    for seed in seeds:
        kept = work / f"seed{seed}" / "arms" / arm
        for role in ("reward", "judge"):
            found[role].append(json.loads((kept / f"{role}.json").read_text(encoding="utf-8"))["test"]["auc"])
        found["true taste"].append(json.loads((kept / "true_auc.json").read_text(encoding="utf-8")))
    return found


def save(result: dict[str, Any], file: Path) -> None:
    """Write a result, numbers rounded to what can mean anything."""
    write_json(file, _rounded(result))
    print(f"{file} written")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.4g}")
    return value
