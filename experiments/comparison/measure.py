"""The paper's tables 2 and 4: RAGAR beside PMG, REBECA and plain baselines, and the recommender retrained with their images.

Usage: python -m experiments.comparison.measure
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from experiments import harness
from recgen.metrics.statistics import paired_seeds, seed_mean

HERE = Path(__file__).parent
GENERATORS = ("ragar", "pmg", "rebeca", "stable_diffusion", "ip_adapter")
DECODE = "{decode: {steps: 6, sampler: dpm++2m, guidance_scale: 3}}"
REBECA = (
    "{layers: 2, heads: 4, width: 64, ratings: likes, prediction: v_prediction, learning_rate: 4.0e-3, users_per_step: 160,"
    " images_per_user: 8, max_steps: 300, patience: 3, guidance: 5, prior_steps: 20,"
    " decode: {steps: 6, sampler: dpm++2m, guidance_scale: 3}}"
)
PMG = (
    "{learning_rate: 1.0e-3, max_steps: 100, evaluate_every: 25, requests_per_step: 16,"
    " decode: {steps: 6, sampler: dpm++2m, guidance_scale: 3}}"
)
ARMS = {
    "all": [
        f"recgen.generators=[{', '.join(GENERATORS)}]", f"recgen.rebeca={REBECA}", f"recgen.pmg={PMG}",
        f"recgen.stable_diffusion={DECODE}", f"recgen.ip_adapter={DECODE}", "recgen.downstream={seeds: 5, settings: {epochs: 8}}",
    ]
}  # fmt: skip
METRICS = (
    "delta_r_judge", "delta_r_reward", "over_optimisation_gap", "score_gain_judge", "score_gain_reward", "cps", "cpis",
    "lpips_personal", "ssim_personal", "cs", "cis", "lpips_semantic", "ssim_semantic", "true_utility_gain",
    "content_preservation",
)  # fmt: skip
DATA = {
    "simulated": (
        "simulated.yaml",
        ["recgen.requests=200", "recgen.ranker.judge=MICRO", "recgen.ranker.reward=Verifier"],
    ),
    "ml-100k": ("movielens.yaml", []),
}


def downstream(work: Path, seeds: list[int]) -> dict:
    """Return Recall@10 and NDCG@10 of every source over all retrainings of all seeds, and each against ORI."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        for path in sorted((work / f"seed{seed}/run/downstream").glob("*/*/results.json")):
            for metric, value in json.loads(path.read_text(encoding="utf-8")).items():
                values.setdefault(metric, {}).setdefault(path.parent.parent.name, []).append(value)
    return {
        metric: {
            source: {
                **seed_mean(found).as_json(),
                "against ORI": paired_seeds(found, by_source["ORI"]).as_json(source, "ORI", metric),
            }
            for source, found in by_source.items()
        }
        for metric, by_source in values.items()
    }  # fmt: skip


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(51, 52))
    result: dict = {"seeds": given.seeds}
    for name, (recipe, shared) in DATA.items():
        work = given.work / "comparison" / name
        harness.run_seeds(given, recipe, work, ARMS, shared, until="report")
        tables: dict[str, pd.DataFrame] = {g: harness.table(work, given.seeds, "all", g) for g in GENERATORS}
        result[name] = {
            "means": {g: harness.means(rows, METRICS) for g, rows in tables.items()},
            "ragar against": {
                g: harness.paired(tables["ragar"], rows, METRICS)
                for g, rows in tables.items()
                if g != "ragar"
            },
            "downstream": downstream(work, given.seeds),
        }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
