"""Writes the benchmarks' JSON files as one page, runs/benchmarks.md: every number with its path in the file.

usage: python experiments/benchmarks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = Path("runs/benchmarks.md")


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a JSON value with their paths."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield from numbers(below, f"{path} / {key}" if path else str(key))
    if not isinstance(value, dict | list):
        yield path, value


def main() -> None:
    lines = ["# Benchmarks", ""]
    for file in sorted(HERE.glob("*.json")):
        lines += [f"## {file.stem}", "", "| what | value |", "| --- | --- |"]
        found = numbers(json.loads(file.read_text(encoding="utf-8")))
        lines += [
            f"| {path} | {value:.4g} |" if isinstance(value, float) else f"| {path} | {value} |"
            for path, value in found
        ]
        lines.append("")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
