"""What reading the published networks takes of this machine's memory, one after the other as a generator's fit loads them.

    python -m experiments.real_shapes.loading --work FOLDER      # FOLDER/weights as measure.py writes them; 9 GiB, half a minute

Each is set against the plan: resident GiB while it is read, and after that. The pipeline's is also measured before the heap has
returned what reading freed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.real_shapes.measure import settings
from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.core.machine import return_heap
from recgen.diffusion import loading
from recgen.pipeline import tasks  # noqa: F401  # what a run's process has loaded
from recgen.pipeline.context import RunContext
from recgen.planning import memory
from recgen.planning.sizes import Sizes
from recgen.recommender import recbole  # noqa: F401  # likewise
from recgen.stages import generate  # noqa: F401  # likewise

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SIZES = Sizes(users=8, items=12, interactions=64, likes=64, requests=1)


def resident(which: str = "VmRSS") -> float:
    """Return the GiB of this process now, or with `VmHWM` at most since `CLEAR` was written to."""
    found = re.search(rf"{which}:\s+(\d+)", STATUS.read_text())
    assert found is not None
    return round(int(found[1]) / 2**20, 2)


def loaded(load: Callable[[], Any]) -> dict[str, float]:
    """Load a network; return the GiB while it is read and after it."""
    CLEAR.write_text("5")
    load()
    return {"while read": resident("VmHWM"), "after": resident()}


def main() -> None:
    """Load the three, and write what was measured and planned."""
    parser = argparse.ArgumentParser(description="memory of reading the published networks")
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    config = load_config("pog", settings(given.work.resolve() / "weights", ["pmg", "stable_diffusion"]))
    planned = memory.tasks(config, SIZES, on_gpu=False)
    run = RunContext(config, given.work / "runs/loading")
    found = {"program": {"after": resident()}}
    loading.return_heap = lambda: None
    found["pipeline, heap kept"] = loaded(lambda: run.models.backbone)
    return_heap()
    found["pipeline"] = {"while read": found["pipeline, heap kept"]["while read"], "after": resident()}
    found["encoder"] = loaded(lambda: run.models.encoder)
    found["language model"] = loaded(lambda: run.models.language_model.model)  # type: ignore[union-attr]
    for name, generator in (("encoder", "stable_diffusion"), ("language model", "pmg")):
        task = next(task for task in planned if task.task == f"generator.fit/{generator}")
        file = next(item.gib for item in task.items if item.what.startswith("the file of weights"))
        found[name] |= {"planned while read": round(task.gib, 2), "planned after": round(task.gib - file, 2)}
    write_json(Path(__file__).with_name("loading.json"), {"unit": "GiB", **found})
    print(found)


if __name__ == "__main__":
    main()
