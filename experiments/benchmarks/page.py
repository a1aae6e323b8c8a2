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


def laws(found: dict[str, Any]) -> list[str]:
    """Return the table of laws.json: sizes, CPU seconds and MiB at each, and the exponents."""
    lines = [
        "| what | sizes | CPU seconds | exponent | MiB | exponent |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, law in found.items():
        sizes = ", ".join(f"{size:,}" for size in law["sizes"])
        cpu, memory = (", ".join(f"{value:.3g}" for value in law[each]) for each in ("cpu", "MiB"))
        exponents = law["exponent of cpu"], law["exponent of MiB"]
        lines.append(f"| {name} | {sizes} {law['of']} | {cpu} | {exponents[0]} | {memory} | {exponents[1]} |")
    return [*lines, ""]


def main() -> None:
    lines = ["# Benchmarks", ""]
    for file in sorted(HERE.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        if file.stem == "laws":
            lines += ["## Laws of time and memory", "", *laws(found.pop("laws"))]
        lines += [f"## {file.stem}", "", "| what | value |", "| --- | --- |"]
        lines += [
            f"| {path} | {value:.4g} |" if isinstance(value, float) else f"| {path} | {value} |"
            for path, value in numbers(found)
        ]
        lines.append("")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
