"""Gathers what `run.sh` left behind into one result.json: times, peak memory, where the data is from, all tables."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

NAMES = ("ml-latest-small", "clothing")
METRICS = ("delta_r_judge", "delta_r_reward", "cps", "cpis", "cs", "cis", "cmmd")


def main(work: Path, result: Path) -> None:
    """Write `result` from the folder that `run.sh` worked in."""
    found = {name: _one(work, name) for name in NAMES if (work / "runs" / name / "metrics.json").is_file()}
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _one(work: Path, name: str) -> dict[str, Any]:
    run = work / "runs" / name
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    note = json.loads((work / "data" / name / "provenance.json").read_text(encoding="utf-8"))
    creatives = {
        generator: {key: values[key] for key in METRICS if key in values}
        for generator, values in metrics["creatives"].items()
    }
    stages = {path.stem: json.loads(path.read_text()) for path in sorted((run / "stages").glob("*.json"))}
    return {
        "commands": _costs(work / "times.txt", name),
        "tasks_seconds": {task: record["seconds"] for task, record in stages.items()},
        "data": {
            key: note[key]
            for key in ("source", "variant", "users", "options", "kept", "dropped")
            if key in note
        },
        "requests": metrics.get("run", {}).get("requests"),
        "creatives": creatives,
        "downstream": metrics.get("downstream"),
        "downstream_tests": [
            test for test in metrics.get("tests", {}).get("paired", []) if "@" in test["metric"]
        ],
    }


def _costs(times: Path, name: str) -> dict[str, dict[str, float]]:
    """Return seconds, seconds of CPU and MiB of each command's last time; a run that was taken up again has several."""
    lines = re.findall(
        r"([\d.]+) s, ([\d.]+) s of CPU, (\d+) KiB: (\w+) (\S+)", times.read_text(encoding="utf-8")
    )
    return {
        what: {"seconds": float(seconds), "cpu_seconds": float(cpu), "peak_mib": round(int(kib) / 1024)}
        for seconds, cpu, kib, what, which in lines
        if which == name
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
