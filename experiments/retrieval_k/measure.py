"""The paper's figure 4(a): how many liked items to retrieve, k in {0, 1, 3, 5, 10, 20}; 0 weighs the whole history alike.

Without the reward, so that what k does is seen alone. On simulated users of two tastes, one per class of contents, and on
MovieLens-100K. Usage: python -m experiments.retrieval_k.measure
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness

HERE = Path(__file__).parent
KS = (0, 1, 3, 5, 10, 20)
PAPER = ["recgen.ragar.retrieve_from=history", "recgen.ragar.weights=similarity"]
ARMS = {f"k={k}": [*PAPER, f"recgen.ragar.k={k}"] for k in KS}
METRICS = (
    "true_utility_gain", "content_preservation", "score_gain_reward", "score_gain_judge", "delta_r_judge", "cps", "cpis", "cs",
    "cis", "ssim_personal", "ssim_semantic",
)  # fmt: skip
DATA = {
    "simulated": ("simulated.yaml", ["recgen.simulator.tastes_per_user=2", "recgen.requests=200"]),
    "ml-100k": ("movielens.yaml", ["recgen.requests=200"]),
}


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(31, 32, 33))
    result: dict = {"seeds": given.seeds}
    for name, (recipe, shared) in DATA.items():
        work = given.work / "retrieval_k" / name
        harness.run_seeds(
            given, recipe, work, ARMS, [*shared, "recgen.ragar.beta=0", "recgen.ragar.max_steps=1"]
        )
        tables = {arm: harness.table(work, given.seeds, arm) for arm in ARMS}
        result[name] = {
            "means": {arm: harness.means(rows, METRICS) for arm, rows in tables.items()},
            "against k=0": {
                arm: harness.paired(rows, tables["k=0"], METRICS)
                for arm, rows in tables.items()
                if arm != "k=0"
            },
        }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
