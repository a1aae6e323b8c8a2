"""How good must a recommender be before it can teach a generator?

The gain in true utility that RAGAR's reward brings, against the reward model's own held-out AUC, which follows from how many
encounters a user it has seen. The point at 200 is the reward experiment's own.
Usage: python -m experiments.reward_quality.measure
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

from experiments import harness

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
ENCOUNTERS = (25, 100, 200, 400)
REWARD_EXPERIMENT, ITS_SEEDS = 200, (11, 12, 13)
ARMS = {"without reward": ["recgen.ragar.beta=0"], "with reward": []}
METRICS = ("true_utility_gain", "score_gain_reward", "score_gain_judge", "content_preservation")


def main() -> None:
    """Run what is missing, write result.json and draw curve.png."""
    given = harness.arguments(__doc__ or "", seeds=(21, 22))
    result = {"seeds": given.seeds, "encounters": {}}
    for encounters in ENCOUNTERS:
        own = encounters != REWARD_EXPERIMENT
        work, seeds = (
            (given.work / f"reward_quality/{encounters}", given.seeds)
            if own
            else (given.work / "reward", ITS_SEEDS)
        )
        shared = [f"recgen.simulator.interactions_per_user={encounters}"]
        harness.run_seeds(given, "simulated.yaml", work, ARMS, shared, seeds=seeds)
        taught, untaught = (harness.table(work, seeds, arm) for arm in ("with reward", "without reward"))
        result["encounters"][encounters] = {
            "auc": harness.auc(work, seeds, "with reward"),
            "with reward": harness.means(taught, METRICS),
            "without reward": harness.means(untaught, METRICS),
            "difference": harness.paired(taught, untaught, METRICS),
        }
    harness.save(result, HERE / "result.json")
    draw(result, HERE / "curve.png")


def draw(result: dict, file: Path) -> None:
    """Draw the difference in true utility, reward's and judge's score against the reward model's AUC."""
    rows = list(result["encounters"].items())
    aucs = [sum(row["auc"]["reward"]) / len(row["auc"]["reward"]) for _, row in rows]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
    names = {"true_utility_gain": "truth", "score_gain_judge": "judge", "score_gain_reward": "reward model"}
    for (metric, name), colour in zip(names.items(), ("black", "tab:blue", "tab:orange"), strict=True):
        found = [row["difference"][metric] for _, row in rows]
        middle = [each["difference"] for each in found]
        spread = [
            [each["difference"] - each["low"] for each in found],
            [each["high"] - each["difference"] for each in found],
        ]
        axes.errorbar(aucs, middle, yerr=spread, marker="o", capsize=3, color=colour, label=name)
    for auc, (encounters, _) in zip(aucs, rows, strict=True):
        axes.annotate(
            f"{encounters}",
            (auc, 0.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=9,
            color="dimgrey",
        )
    axes.text(0.02, 0.09, "encounters a user:", transform=axes.transAxes, fontsize=9, color="dimgrey")
    truths = [value for _, row in rows for value in row["auc"]["true taste"]]
    best = sum(truths) / len(truths)
    axes.axvline(best, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("the true taste's AUC", (best, 0.97), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="top",
                  fontsize=8, color="dimgrey")  # fmt: skip
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="held-out AUC of the reward model", ylabel="gain by the reward, logits")
    axes.margins(0.15, 0.25)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
