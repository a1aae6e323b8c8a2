"""How RAGAR's retrieval was chosen: k, tau, kappa and the IP-Adapter's scale of an untrained RAGAR, on a seed of no result.

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
REQUESTS = 120
CHOICES = [
    {"k": k, "tau": tau, "kappa": kappa, "scale": scale}
    for k, tau, kappa, scale in (
        (10, 0.5, 2.0, 1.0), (10, 0.5, 0.0, 1.0), (10, 0.5, 6.0, 1.0), (5, 0.5, 2.0, 1.0),
        (20, 0.5, 2.0, 1.0), (40, 0.5, 2.0, 1.0), (10, 0.2, 2.0, 1.0), (10, 1.0, 2.0, 1.0),
        (20, 1.0, 2.0, 1.0), (10, 0.5, 2.0, 0.75), (20, 0.5, 2.0, 0.75), (20, 1.0, 0.0, 1.0),
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
        decode = {**run.config.generators["ragar"].settings["decode"], "ip_adapter_scale": choice["scale"]}
        retrieval = {key: value for key, value in choice.items() if key != "scale"}
        made.config = Settings(**configured(run, {**UNTRAINED, **retrieval, "decode": decode}))
        made.fit(run.data, reward)
        rows = iamg.judged(run, list(made.generate(unknown(run, made, REQUESTS), run.data, reward)))
        found.append({**choice, **harness.means(rows, METRICS)})
        print(choice, found[-1]["true_utility_gain"], found[-1]["content_preservation"], flush=True)
    harness.save({"seed": given.seeds[0], "requests": REQUESTS, "choices": found}, HERE / "choice.json")


if __name__ == "__main__":
    main()
