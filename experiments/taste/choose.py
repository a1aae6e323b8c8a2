"""Choose how strongly taste is shown, on seed 900, which no reported figure uses; writes choice.json.

Usage: python -m experiments.taste.choose [--work FOLDER] [--seeds 900]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.taste.arms import DECODE, Arms, draw
from experiments.taste.measure import REQUESTS
from experiments.taste.worlds import WORLDS, Measured, World, prepared
from generators.taste.kept import Strength

HERE = Path(__file__).parent
WORDED, FACTORS = "verifier-200", "factors-200"
SCALES, KS = (0.25, 0.5, 0.75, 1.0), (10, 20, 40)


def main() -> None:
    """Draw seed 900's requests under every strength and k, and write what the truth says of them."""
    given = harness.arguments(__doc__ or "", (900,))
    rows: list[dict[str, Any]] = []
    for world, seed in itertools.product(WORLDS, given.seeds):
        if world.name in (WORDED, FACTORS):
            for row in _tried(given.work / "taste", world, seed):
                rows.append({"world": world.name, "seed": seed, **row})
                print(rows[-1], flush=True)
                harness.save({"requests": REQUESTS, "tried": rows}, HERE / "choice.json")


def _tried(work: Path, world: World, seed: int) -> Iterator[dict[str, Any]]:
    run = prepared(work, world, seed)
    requests = run.requests[:REQUESTS]
    measured, arms = Measured(run, requests), Arms(run, requests)
    ceiling = float(measured.bounds()["ceiling"].mean())
    yield {"show": "text", **_means(measured, arms.text(), ceiling)}
    for show, k in itertools.product(("both", "image"), KS):
        taste = arms.taste(show)
        taste.config = taste.config.model_copy(update={"k": k})
        answers = taste.answers(requests, run.data, arms.reward)
        for scale in SCALES:
            strength = Strength(3 if show == "both" else 0, scale, DECODE.guidance_scale)
            images = draw(taste, requests, answers, run.data, strength)
            yield {"show": show, "k": k, **strength.as_json(), **_means(measured, images, ceiling)}


def _means(measured: Measured, images: list, ceiling: float) -> dict[str, float]:
    table = measured.table(images)
    gain = float(table["gain"].mean())
    return {"gain": gain, "share": gain / ceiling, "content": float(table["content"].mean())}


if __name__ == "__main__":
    main()
