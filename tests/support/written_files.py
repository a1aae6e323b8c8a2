"""What a run has written, to compare two runs of one configuration."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def written(folder: Path) -> dict[str, object]:
    """Everything that a run has written and that must not depend on how, by file."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name == "creatives/manifest.parquet":
            found[name] = path.read_bytes()
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path)
            found[name] = table[[each for each in table if each != "seconds"]].to_csv()
        elif path.suffix in (".png", ".safetensors", ".txt") or path.name in ("metrics.json", "results.json"):
            found[name] = path.read_bytes()
    found.pop("log.txt", None)
    return found


def differing(one: Path, other: Path) -> set[str]:
    """Return the names of files that are not the same in two runs' folders."""
    first, second = written(one), written(other)
    assert len(first) > 30
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
