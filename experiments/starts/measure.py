"""What a RAGAR that has learned nothing draws from: P_ret through IP-Adapter, or the paper's text condition; beside baselines.

Both of eq. 11's actions are tried without any training, so that what the reward adds can be told from where it starts.
Usage: python -m experiments.starts.measure
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness

HERE = Path(__file__).parent
DECODE = "{decode: {steps: 6, sampler: dpm++2m, guidance_scale: 3}}"
UNTRAINED = [
    "recgen.ragar.beta=0", "recgen.ragar.max_steps=1", "recgen.ragar.learning_rate=1e-12",
    "recgen.ragar.retrieve_from=history", "recgen.ragar.weights=similarity", "recgen.ragar.k=5",
]  # fmt: skip
ARMS = {
    "preference": [
        *UNTRAINED, "recgen.generators=[ragar, ip_adapter, stable_diffusion]", f"recgen.ip_adapter={DECODE}",
        f"recgen.stable_diffusion={DECODE}",
    ],
    "tokens": [*UNTRAINED, "recgen.ragar.action=tokens"],
}  # fmt: skip
METRICS = (
    "true_utility_gain", "score_gain_reward", "score_gain_judge", "content_preservation", "cpis", "cps", "cis", "cs",
)  # fmt: skip


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(14, 15, 16))
    work = given.work / "starts"
    harness.run_seeds(given, "simulated.yaml", work, ARMS)
    tables = {
        "P_ret through IP-Adapter": harness.table(work, given.seeds, "preference"),
        "text condition": harness.table(work, given.seeds, "tokens"),
        "ip_adapter": harness.table(work, given.seeds, "preference", "ip_adapter"),
        "stable_diffusion": harness.table(work, given.seeds, "preference", "stable_diffusion"),
    }
    first = tables["P_ret through IP-Adapter"]
    result = {
        "seeds": given.seeds,
        "means": {name: harness.means(rows, METRICS) for name, rows in tables.items()},
        "against P_ret": {
            name: harness.paired(rows, first, METRICS) for name, rows in tables.items() if rows is not first
        },
    }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
