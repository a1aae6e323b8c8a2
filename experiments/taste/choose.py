"""Choose how strongly taste is shown in the world of factors, on seed 900, which no reported figure uses; writes choice.json.

Usage: python -m experiments.taste.choose [--work FOLDER] [--seeds 900]
"""

from __future__ import annotations

import itertools
from pathlib import Path

from experiments import harness
from experiments.taste.arms import Arms, draw
from experiments.taste.measure import REQUESTS
from experiments.taste.worlds import WORLDS, Measured, prepared
from generators.taste.kept import Strength

HERE, WORLD = Path(__file__).parent, "factors-200"
SCALES, GUIDANCES, KS = (0.5, 1.0), (2.0, 3.0), (5, 10, 20)


def main() -> None:
    """Draw seed 900's requests under every strength and k, and write what the truth says of them."""
    given = harness.arguments(__doc__ or "", (900,))
    world = next(world for world in WORLDS if world.name == WORLD)
    rows = []
    for seed in given.seeds:
        folder = given.work / f"taste/{world.name}/seed{seed}"
        run = prepared(given.work / "taste", world, seed)
        requests = run.requests[:REQUESTS]
        measured, arms = Measured(run, requests), Arms(run, requests, folder)
        ceiling = float(measured.bounds()["ceiling"].mean())
        rows.append({"seed": seed, "what": "text", **_means(measured, arms.text(), ceiling)})
        for show, k in itertools.product(("image", "both"), KS):
            taste = arms.taste(show)
            taste.config = taste.config.model_copy(update={"k": k})
            answers = taste.answers(requests, run.data, arms.reward)
            for scale, guidance in itertools.product(SCALES, GUIDANCES):
                strength = Strength(3 if show == "both" else 0, scale, guidance)
                found = _means(measured, draw(taste, requests, answers, run.data, strength), ceiling)
                rows.append({"seed": seed, "what": show, "k": k, **strength.as_json(), **found})
                print(rows[-1], flush=True)
                harness.save({"requests": REQUESTS, "tried": rows}, HERE / "choice.json")


def _means(measured: Measured, images: list, ceiling: float) -> dict[str, float]:
    table = measured.table(images)
    gain = float(table["gain"].mean())
    return {"gain": gain, "share": gain / ceiling, "content": float(table["content"].mean())}


if __name__ == "__main__":
    main()
