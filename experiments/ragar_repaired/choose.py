"""How RAGAR's retrieval was chosen: k, tau and kappa of an untrained RAGAR, on a seed that no result is of.

Usage: python -m experiments.ragar_repaired.choose
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness, iamg
from experiments.ragar_repaired.measure import METRICS, UNTRAINED, configured, prepared, unknown
from generators.ragar import RAGAR, Settings
from recgen.stages.generate import generator
from recgen.stages.ranker import reward_model

HERE = Path(__file__).parent
REQUESTS = 60
CHOICES = [
    {"retrieve_from": source, "k": k, "tau": tau, "kappa": kappa}
    for source, k, tau, kappa in (
        ("both", 10, 0.5, 2.0), ("both", 10, 0.5, 0.0), ("both", 10, 0.5, 6.0), ("both", 5, 0.5, 2.0), ("both", 20, 0.5, 2.0),
        ("both", 10, 0.2, 2.0),
    )
]  # fmt: skip


def main() -> None:
    """Draw the same requests under every choice and write choice.json."""
    given = harness.arguments(__doc__ or "", seeds=(900,))
    run = prepared(given.work / "ragar_repaired", given.seeds[0])
    reward, made = reward_model(run, "reward"), generator(run, "ragar")
    assert isinstance(made, RAGAR)
    found = []
    for choice in CHOICES:
        made.config = Settings(**configured(run, {**UNTRAINED, **choice}))
        made.fit(run.data, reward)
        rows = iamg.judged(run, list(made.generate(unknown(run, made, REQUESTS), run.data, reward)))
        found.append({**choice, **harness.means(rows, METRICS)})
        print(choice, found[-1]["true_utility_gain"], found[-1]["content_preservation"], flush=True)
    harness.save({"seed": given.seeds[0], "requests": REQUESTS, "choices": found}, HERE / "choice.json")


if __name__ == "__main__":
    main()
