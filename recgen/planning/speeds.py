"""What earlier runs on this machine took, against what had been estimated: the factor by which an estimate is put right.

A finished task's record has its seconds and, under `planned`, the kind of work and the seconds estimated for it. The factor of
a kind is the sum of what was measured over the sum of what was estimated, in this run's records where there are some, else in
those of the runs beside it on the same machine.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recgen.core.io import read_json
from recgen.core.machine import cores

_LATEST = 20  # runs beside this one that are looked at
_SURE = 1.0  # seconds: less says nothing about a kind


def machine_name() -> str:
    """Return what tells this machine from others in records."""
    return f"{platform.node()} {platform.machine()} {cores()}"


def planned(kind: str, seconds: float, device: str) -> dict[str, Any]:
    """Return what a task's record says of its estimate."""
    return {"kind": kind, "seconds": round(seconds, 3), "machine": machine_name(), "device": device}


def factors(run: Path, device: str) -> dict[str, float]:
    """Return, by kind of work, measured over estimated seconds of what was finished here on a device.

    Parameters
    ----------
    run
        The run's folder; folders of runs lie beside it.
    device
        ``cpu`` or a GPU's name.
    """
    own = _factors(_records([run]), device)
    others = sorted(_runs_beside(run), key=lambda folder: folder.stat().st_mtime, reverse=True)[:_LATEST]
    return {**_factors(_records(others), device), **own}


def _runs_beside(run: Path) -> Iterable[Path]:
    above = run.resolve().parent
    if not above.is_dir():
        return []
    return [folder for folder in above.iterdir() if (folder / "stages").is_dir() and folder != run.resolve()]


def _records(runs: Iterable[Path]) -> Iterable[Mapping[str, Any]]:
    for folder in runs:
        for path in (folder / "stages").glob("*.json"):
            record = read_json(path)
            if record and isinstance(record.get("planned"), dict):
                yield record


def _factors(records: Iterable[Mapping[str, Any]], device: str) -> dict[str, float]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in records:
        plan = record["planned"]
        if plan.get("machine") == machine_name() and plan.get("device") == device:
            pair = sums[str(plan.get("kind"))]
            pair[0] += float(record.get("seconds", 0.0))
            pair[1] += float(plan.get("seconds", 0.0))
    return {
        kind: measured / estimated
        for kind, (measured, estimated) in sums.items()
        if measured >= _SURE and estimated > 0
    }
