"""Choose how the reward's gradient is climbed, on seed 900, which no reported figure uses; writes choice_refined.json.

Usage: python -m experiments.taste.choose_refined [--work FOLDER] [--seeds 900]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.taste.arms import FIXED, FIXED_FACTORS
from experiments.taste.uphill import Images, Uphill, timed
from experiments.taste.worlds import WORLDS, Measured, World, prepared
from generators.common.settings import Refinement
from generators.taste.corrected import Corrector
from recgen.core.io import read_json

HERE = Path(__file__).parent
NAMES, REQUESTS = ("factors-200",), 40
LEARNED = (("opinion", {}),)
"""What a network learns to climb, and what differs from the last 3 denoising steps and a hinge of 20."""
REFINED = (
    ("opinion", {}),
    ("opinion", {"rate": 0.15}),
    ("reward", {}),
    ("pessimist", {}),
    ("opinion", {"last": 1}),
    ("opinion", {"content": 0.0}),
)
"""What is climbed for each request, and what differs from 9 steps of 0.05 and the settings above."""
PAIRS, REGRESSED = 512, 96
"""Pairs from which a network learns, and pairs that `refine` climbs for one to learn from by least squares, at the same cost."""


def main() -> None:
    """Draw seed 900's requests in every way that is not in the file yet, and write what the truth says of them."""
    given, file = harness.arguments(__doc__ or "", (900,)), HERE / "choice_refined.json"
    rows: list[dict[str, Any]] = (read_json(file) or {"tried": []})["tried"]
    for name in NAMES:
        (world,) = [each for each in WORLDS if each.name == name]
        for seed in given.seeds:
            known = [each["way"] for each in rows if (each["world"], each["seed"]) == (name, seed)]
            for row in _tried(given.work / "taste_refined", world, seed, known):
                rows.append({"world": name, "seed": seed, **row})
                print(rows[-1], flush=True)
                harness.save({"requests": REQUESTS, "tried": rows}, file)


def _ways(uphill: Uphill) -> Iterator[tuple[dict[str, Any], Callable[[], Images]]]:
    """Yield what is tried, and what draws it."""

    def corrected(learned: Callable[[], Corrector]) -> Images:
        return uphill.moved(uphill.corrections(learned())["own"])

    yield {"way": "taste"}, lambda: uphill.drawn(uphill.plain)
    for by, changes in LEARNED:
        settings = Refinement(**changes)
        learned = partial(uphill.learned, by, PAIRS, settings)
        yield _named("learned", by, changes, PAIRS), partial(corrected, learned)
    for by, changes in REFINED:
        settings = Refinement(**{"steps": 9, **changes})
        yield _named("refined", by, changes), partial(uphill.refined, by, settings)
    regressed = partial(uphill.regressed, "opinion", REGRESSED, Refinement(steps=9))
    yield _named("regressed", "opinion", {}, REGRESSED), partial(corrected, regressed)


def _named(way: str, by: str, changes: dict[str, float], pairs: int | None = None) -> dict[str, Any]:
    return {"way": {"how": way, "by": by, **changes} | ({} if pairs is None else {"pairs": pairs})}


def _tried(work: Path, world: World, seed: int, known: Sequence[Any]) -> Iterator[dict[str, Any]]:
    run = prepared(work, world, seed)
    requests = run.requests[:REQUESTS]
    strength = (FIXED if world.tastes_in == "words" else FIXED_FACTORS)["both"]
    uphill, measured = Uphill(run, requests, strength), Measured(run, requests)
    plain = measured.table(uphill.drawn(uphill.plain))["gain"].to_numpy()
    for name, draw in _ways(uphill):
        if name["way"] in known:
            continue
        images, seconds = timed(draw)
        table = measured.table(images)
        more = table["gain"].to_numpy() - plain
        yield {
            **name,
            "gain": float(table["gain"].mean()),
            "over taste": float(more.mean()),
            "standard error": float(more.std() / len(more) ** 0.5),
            "content": float(table["content"].mean()),
            **{by: float(uphill.scores(by, images).mean()) for by in uphill.climbed},
            "seconds": seconds,
        }


if __name__ == "__main__":
    main()
