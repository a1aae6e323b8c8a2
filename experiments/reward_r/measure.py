"""The paper's figure 4(b): how many perturbations r a request gets in training, r in {0, 1, 3, 5}; 0 is without the reward.

On simulated users with verifiers for reward and judge, and on MovieLens-100K with MICRO for both.
Usage: python -m experiments.reward_r.measure
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness

HERE = Path(__file__).parent
ARMS = {f"r={r}": [f"recgen.ragar.r={r}"] for r in (0, 1, 3, 5)}
METRICS = (
    "score_gain_reward", "score_gain_judge", "delta_r_reward", "delta_r_judge", "true_utility_gain", "content_preservation",
    "cpis", "cs", "cis",
)  # fmt: skip
DATA = {"simulated": "simulated.yaml", "ml-100k": "movielens.yaml"}


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(41,))
    result: dict = {"seeds": given.seeds}
    for name, recipe in DATA.items():
        work = given.work / "reward_r" / name
        harness.run_seeds(given, recipe, work, ARMS)
        tables = {arm: harness.table(work, given.seeds, arm) for arm in ARMS}
        result[name] = {
            "means": {arm: harness.means(rows, METRICS) for arm, rows in tables.items()},
            "against r=0": {
                arm: harness.paired(rows, tables["r=0"], METRICS)
                for arm, rows in tables.items()
                if arm != "r=0"
            },
        }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
