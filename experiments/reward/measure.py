"""Does a generator that learns from a recommender make images that recommender and, more, another one like better?

RAGAR with the reward, without it (beta = 0), with eq. 14 as printed, and with the paper's estimator, on simulated users
that it did not learn from. Usage: python -m experiments.reward.measure
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness

HERE = Path(__file__).parent
PAPER = [
    "recgen.ragar.action=tokens",
    "recgen.ragar.noise=own",
    "recgen.ragar.pairs=single",
    "recgen.ragar.r=3",
]
ARMS = {
    "without reward": ["recgen.ragar.beta=0"],
    "with reward": [],
    "reward as printed": ["recgen.ragar.reward_sign=as_printed"],
    "paper's estimator": PAPER,
    "paper's estimator, not trained": [
        *PAPER, "recgen.ragar.beta=0", "recgen.ragar.max_steps=1", "recgen.ragar.learning_rate=1e-12",
    ],
}  # fmt: skip
METRICS = (
    "score_gain_reward", "score_gain_judge", "true_utility_gain", "content_preservation", "delta_r_reward", "delta_r_judge",
    "over_optimisation_gap", "cis",
)  # fmt: skip


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(11, 12, 13))
    work = given.work / "reward"
    harness.run_seeds(given, "simulated.yaml", work, ARMS)
    tables = {name: harness.table(work, given.seeds, name) for name in ARMS}
    result = {
        "seeds": given.seeds,
        "auc": harness.auc(work, given.seeds, "with reward"),
        "means": {name: harness.means(rows, METRICS) for name, rows in tables.items()},
        "against without reward": {
            name: harness.paired(rows, tables["without reward"], METRICS)
            for name, rows in tables.items()
            if name != "without reward"
        },
        "paper's estimator against itself not trained": harness.paired(
            tables["paper's estimator"], tables["paper's estimator, not trained"], METRICS
        ),
        "against without reward, seed by seed": {
            seed: harness.paired(
                tables["with reward"].query("seed == @seed"),
                tables["without reward"].query("seed == @seed"),
                METRICS[:4],
            )
            for seed in given.seeds
        },
    }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
