"""The evaluate stage, second half: means, intervals and tests over what `recgen.stages.measure` has found, and metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from recgen.config.schema import OpenClip, Requests
from recgen.core.io import read_json, write_json, write_parquet
from recgen.core.seeding import seed_for
from recgen.metrics import budget, contrasts, gate, networks, statistics
from recgen.metrics.calibration import calibrated
from recgen.metrics.registry import BY_KEY, NOT_BUILT
from recgen.pipeline import controls, groups
from recgen.pipeline.context import RunContext
from recgen.pipeline.gate import safety_checker
from recgen.stages.ranker import model_folder
from recgen.stages.vlm_judge import FIRST_PLACE, PREFERENCE


def summarise(run: RunContext) -> list[Path]:
    """Write per_request.parquet and evaluation/summary.json: means with intervals, contrasts with controls, and tests."""
    folder, settings = run.folder / "evaluation", run.settings
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in settings.generators}
    others = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in tables}
    means = {name: {**_means(run, table), **others[name]["set"]} for name, table in tables.items()}
    shown, swapped = (
        {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
        for names in (controls.shown(settings), controls.swapped(settings))
    )
    by_source = {name.removeprefix(controls.SWAPPED): table for name, table in swapped.items()}
    tested = contrasts.contrasts(tables, by_source, shown, controls.PLACEBO, settings.seed)
    summary = {
        "creatives": means,
        "controls": {name: _means(run, table) for name, table in {**shown, **swapped}.items()},
        "judge_and_truth": {
            name: contrasts.agreement(table, by_source[name])
            for name, table in tables.items()
            if name in by_source
        },
        "judges": judges(run),
        "calibration": calibrated(tables, by_source, settings.seed),
        "tests": {
            "permutation": {
                name: other["permutation"] for name, other in others.items() if other["permutation"]
            },
            "contrasts": list(tested),
            "paired": list(_paired(run, tables)),
        },
        "unavailable": _unavailable(run, means),
        **({} if settings.gate is None else {"gate": {name: _gated(run, tables[name]) for name in tables}}),
        **_vlm(others),
        **_sharing(run),
        **_budgeted(run, tables),
    }
    write_parquet(run.folder / "per_request.parquet", pd.concat(tables.values(), ignore_index=True))
    write_json(folder / "summary.json", summary)
    write_metrics(run, {})
    return [run.folder / "per_request.parquet", folder / "summary.json"]


def _gated(run: RunContext, table: pd.DataFrame) -> dict[str, Any]:
    """Return what the gate did with one generator's creatives, measured in `table`, and what it was told of their safety by."""
    (name,) = table["generator"].unique()
    found = pd.read_parquet(run.folder / f"gate/{name}.parquet")
    seed = seed_for(run.settings.seed, "bootstrap gate")
    said = gate.summary(found["verdict"], table["user_id"].to_numpy(), table, seed)
    return {**said, "safety": safety_checker(run, name) or "not checked"}


def _vlm(others: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return by generator what a vision-language model was asked, and how many of its answers could not be read."""
    found = {name: other["vlm"] for name, other in others.items() if "vlm" in other}
    return {"vlm": found} if found else {}


def _sharing(run: RunContext) -> dict[str, Any]:
    """Return what sharing creatives costs and saves, by generator; nothing where it was not measured."""
    names = [task.arguments[0] for task in groups.curves(run)]
    found = {name: read_json(run.folder / f"groups/{name}.json") for name in names}
    return {"sharing": found} if found else {}


def _budgeted(run: RunContext, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what fewer images would have earned, by generator, and how many were asked for; nothing without a budget."""
    if run.settings.budget is None:
        return {}
    chosen = pd.read_parquet(run.folder / "creatives/budget.parquet")
    found = {}
    for name, table in tables.items():
        rows = table.merge(chosen, on=["user_id", "item_id"])
        metric = "true_utility_gain" if "true_utility_gain" in rows else "score_gain_judge"
        told = (rows["image"].tolist(), rows["gain"], rows[metric], rows["traffic"], run.settings.seed)
        found[name] = {"metric": metric, **budget.curve(*told)}
    return {"budget": {"asked": int(chosen["image"].nunique()), "generators": found}}


def _measured(table: pd.DataFrame) -> list[str]:
    """Return the metrics that have a value per creative, in the order of the metrics' table."""
    return [key for key, metric in BY_KEY.items() if metric.kind == "creative" and key in table]


def _means(run: RunContext, table: pd.DataFrame) -> dict[str, Any]:
    return {
        key: statistics.bootstrap_mean(
            table[key], table["user_id"].to_numpy(), seed_for(run.settings.seed, f"bootstrap {key}")
        )
        .within(BY_KEY[key].bounds)
        .as_json()
        for key in _measured(table)
    }


def _paired(run: RunContext, tables: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """Compare every two generators over the requests, which all of them have answered in one order."""
    for (a, first), (b, second) in combinations(tables.items(), 2):
        for key in _measured(first):
            seed = seed_for(run.settings.seed, f"paired {key}")
            users = first["user_id"].to_numpy()
            yield statistics.paired_difference(first[key], second[key], users, seed).as_json(a, b, key)


def _unavailable(run: RunContext, means: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Say what was not measured and what it takes."""
    reasons: dict[str, str] = {}
    for metric, keys in {"lpips": ["lpips_personal", "lpips_semantic"], "fid": ["fid"]}.items():
        reason = networks.missing(metric)
        reasons |= {key: reason for key in keys if reason is not None}
    measured = {key for values in means.values() for key in values}
    if not run.holds_out:
        reason = "no likes are held out of what generators see; set recgen.requests.held_out to 0.5"
        reasons |= dict.fromkeys(("cps_held_out", "cpis_held_out"), reason)
    if run.settings.metrics.vlm is None:
        reason = "it needs an endpoint of a vision-language model; set recgen.metrics.vlm.endpoint"
        reasons |= dict.fromkeys((PREFERENCE, FIRST_PLACE), reason)
    if "cmmd" not in measured:
        reasons["cmmd"] = "it needs two creatives and two images"
    if run.settings.ranker.same_judge:
        reasons["over_optimisation_gap"] = (
            "reward and judge are one model (same_judge: true), so it is zero by construction; run without same_judge"
        )
    return {**reasons, **NOT_BUILT}


def write_metrics(run: RunContext, downstream: dict[str, Any]) -> Path:
    """Write metrics.json: the summary of the creatives, `downstream` (with its ``tests``), and what the run was."""
    summary = json.loads((run.folder / "evaluation/summary.json").read_text(encoding="utf-8"))
    found = summary["tests"]["contrasts"]
    every = contrasts.corrected([*found, *summary["tests"]["paired"], *downstream.get("tests", [])])
    tests = {**summary["tests"], "contrasts": every[: len(found)], "paired": every[len(found) :]}
    sources, baselines = downstream.get("sources", {}), downstream.get("baselines", {})
    write_json(
        run.folder / "metrics.json",
        {
            **summary,
            "downstream": sources,
            "downstream_baselines": baselines,
            "tests": tests,
            "run": facts(run),
        },
    )
    return run.folder / "metrics.json"


def judges(run: RunContext) -> list[dict[str, Any]]:
    """Return for each judge the encoder that it sees images through, and what it knows of what users like, held out."""
    settings = run.settings
    found = []
    for member, encoder in enumerate(settings.ranker.judge_encoders or [settings.encoder]):
        record = read_json(model_folder(run, "judge", member) / "training.json") or {}
        found.append({"encoder": _encoder_name(encoder), **record.get("test", {})})
    return found


def _encoder_name(spec: str | OpenClip) -> str:
    return spec if isinstance(spec, str) else spec.model


def _shared_facts(run: RunContext) -> dict[str, Any]:
    """Return how many groups share creatives; nothing where users have their own."""
    asked = groups.plan(run.settings)
    return {"groups": asked.groups} if asked.shares else {}


def _placebo_facts(run: RunContext) -> dict[str, Any]:
    """Return among how many noises the placebo selects; nothing where there is none."""
    settings = run.settings
    return {"placebo_noises": settings.placebo_noises} if "placebo" in settings.controls else {}


def _text_facts(run: RunContext) -> dict[str, Any]:
    """Return what the ranking models read texts through; nothing where it is the run's encoder."""
    own = run.settings.ranker.text_encoder
    return {} if own is None else {"text_encoder": own}


def _draws_with_it(run: RunContext) -> bool:
    """Return whether any generator draws with the run's own backbone: images may be made elsewhere, or by checkpoints."""
    return any(spec.families and spec.checkpoint is None for spec in run.config.generators.values())


def facts(run: RunContext) -> dict[str, Any]:
    """Return what a reader must know beside the numbers; nothing that changes from one run to the same run again."""
    settings = run.settings
    bad = json.loads((run.folder / "dataset/bad_images.json").read_text(encoding="utf-8"))
    return {
        "dataset": run.config.recbole["dataset"],
        "users": run.interactions["user_id"].nunique(),
        "items": len(run.items),
        "images": int(run.items["image"].notna().sum()),
        "rendered": settings.simulator is not None or settings.images == "rendered",
        "bad_images": len(bad),
        "interactions": int((run.interactions["split"] != "none").sum()),
        "dislikes": int((run.interactions["split"] == "none").sum()),
        "requests": len(run.requests),
        **_shared_facts(run),
        **_placebo_facts(run),
        "protocol": settings.requests.protocol if isinstance(settings.requests, Requests) else "paper",
        "seed": settings.seed,
        "target": settings.eval_split,
        "same_judge": settings.ranker.same_judge,
        "reward": settings.ranker.reward,
        "judge": settings.ranker.judge,
        "judge_encoder": " + ".join(map(_encoder_name, settings.ranker.judge_encoders or [settings.encoder])),
        **_text_facts(run),
        "verifier": settings.ranker.verifier,
        "what_if": settings.ranker.what_if,
        "encoder": _encoder_name(settings.encoder),
        "backbone": settings.backbone if _draws_with_it(run) else None,
        "downstream": {
            "model": settings.downstream.model or settings.ranker.judge,
            "seeds": settings.downstream.seeds,
            "mix_weight": settings.downstream.mix_weight,
        },
        "threads": run.threads,
    }
