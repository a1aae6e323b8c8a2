"""What finished runs took against what was planned as they started, by their own records; earlier runs put no estimate right.

python -m experiments.plan.measure RUN [RUN ...]      # folders of finished runs
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recgen.config.loader import load_config
from recgen.core.io import read_json, write_json
from recgen.pipeline import forecast, pool
from recgen.pipeline.context import RunContext
from recgen.pipeline.side_by_side import waits
from recgen.pipeline.tasks import tasks
from recgen.planning.schedule import makespan

DONE = re.compile(r"(\d+) of \1 tasks done in ([\d.]+) s")


def taken(folder: Path) -> dict[str, Any]:
    """Return a run's planned and measured seconds, its CPU seconds, and the sums of both by kind of work."""
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    work, workers = tasks(run), pool.workers(run, forecast.sizes(run))
    found = {task.name: read_json(folder / f"stages/{task.name.replace('/', '.')}.json") for task in work}
    records = {name: record for name, record in found.items() if record}
    planned = {name: float(record["planned"]["seconds"]) for name, record in records.items()}
    behind = {name: names for name, names in waits(work).items() if name in planned}
    seconds, expected = clock(folder, records, workers), makespan(behind, planned, workers)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, record in records.items():
        for place, value in enumerate((planned[name], record["seconds"], record["cpu_seconds"])):
            kinds[record["planned"]["kind"]][place] += value
    return {
        "tasks": len(records),
        "processes": workers,
        "planned_seconds": round(expected, 1),
        "seconds": seconds,
        "ratio": round(seconds / expected, 2),
        "cpu_seconds": round(sum(record["cpu_seconds"] for record in records.values()), 1),
        "kinds": {kind: [round(value, 1) for value in sums] for kind, sums in sorted(kinds.items())},
    }


def clock(folder: Path, records: Mapping[str, Any], workers: int) -> float:
    """Return the seconds by the clock of a run that one command did, or of all tasks of one that went on in one process."""
    done = DONE.search((folder / "log.txt").read_text(encoding="utf-8"))
    if done is not None and int(done[1]) == len(records):
        return float(done[2])
    if workers > 1:
        raise SystemExit(f"{folder}: not done by one command from its start to its end")
    return round(sum(record["seconds"] for record in records.values()), 1)


def main() -> None:
    """Measure the runs that are named, and write the result."""
    parser = argparse.ArgumentParser(description="what runs took against their plan")
    parser.add_argument("runs", nargs="+", type=Path)
    given = parser.parse_args()
    found = {run.name: taken(run) for run in given.runs}
    write_json(Path(__file__).with_name("result.json"), {"kinds": "planned, measured, CPU seconds", **found})


if __name__ == "__main__":
    main()
