"""The Python API: what `import recgen` takes, and a warm `Run.draw` on the shipped models.

A run on a few simulated users is fitted with the drawing settings of the configuration `simulated` (6 denoising steps, guidance
3), on one thread. Every generator draws one pair, which loads what it needs, and then `--draws` pairs that the run has not drawn,
each timed in wall and CPU seconds. The import is timed in processes of its own, without the interpreter's start.

usage: python experiments/benchmarks/api.py [--draws 8] [--imports 7] [--generators NAME ...]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from data import Clock, environment, write_result

import recgen

GENERATORS = ("stable_diffusion", "ip_adapter_mean", "taste")
SMALL: dict[str, Any] = {
    "simulator": {"users": 24, "items": 30, "seed": 0, "interactions_per_user": 24},
    "threads": 1,
    "requests": 6,
    "ranker__settings": {"Verifier": {"hidden_size": 32}},
    "controls": [],
}
IMPORT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import recgen
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def importing(count: int) -> dict[str, float]:
    """Return the median seconds of `import recgen` over new processes."""
    found = []
    for _ in range(count):
        told = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found.append([float(each) for each in told.stdout.split()])
    return dict(zip(("wall", "cpu"), map(statistics.median, zip(*found, strict=True)), strict=True))


def drawing(run: recgen.Run, name: str, count: int) -> dict[str, Any]:
    """Return the seconds of the first draw and the median and the longest of `count` more, of other users and items."""
    asked = {(request.user_id, request.item_id) for request in run.requests}
    users, items = (sorted(set(each)) for each in zip(*asked, strict=True))
    pairs = [(user, item) for user in users for item in items]
    first, *others = [pair for pair in pairs if pair not in asked][: count + 1]
    with Clock() as cold:
        run.draw(*first, generator=name)
    found = []
    for pair in others:
        with Clock() as clock:
            run.draw(*pair, generator=name)
        found.append(clock.per(1))
    return {
        "first": cold.per(1),
        "warm": {key: statistics.median(each[key] for each in found) for key in ("wall", "cpu")},
        "longest": {key: max(each[key] for each in found) for key in ("wall", "cpu")},
        "draws": len(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--imports", type=int, default=7)
    parser.add_argument("--generators", nargs="+", default=GENERATORS)
    options = parser.parse_args()
    found: dict[str, Any] = {"import": importing(options.imports)}
    with tempfile.TemporaryDirectory() as folder:
        run = recgen.run(
            "simulated",
            f"{folder}/run",
            ["epochs=4", "use_gpu=False"],
            until="generator.fit",
            **SMALL,
            generators=list(options.generators),
        )
        found["draw"] = {name: drawing(run, name, options.draws) for name in options.generators}
    write_result(Path(__file__), {**found, "environment": environment()})


if __name__ == "__main__":
    main()
