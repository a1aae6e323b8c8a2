"""The counts of a long torture as JSON and as the table in docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from attacks import Tally

BEGIN, END = "<!-- counts of make torture -->", "<!-- end of the counts -->"


def written(root: Path, found: Tally, minutes: float, seed: int, files: int) -> None:
    """Write experiments/torture.json and put the table into docs/reliability.md."""
    facts = {
        "minutes": minutes,
        "seed": seed,
        "files of a run": files,
        "tried": dict(sorted(found.tried.items())),
        "lost": len(found.lost),
        "tracebacks": len(found.tracebacks),
        "silent": len(found.silent),
        "what": found.bad[:20],
    }
    (root / "experiments/torture.json").write_text(json.dumps(facts, indent=1) + "\n")
    page = root / "docs/reliability.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{table(facts)}\n{END}{after}", encoding="utf-8")


def table(facts: dict) -> str:
    """Return the counts as a Markdown table."""
    groups: Counter[str] = Counter()
    for what, count in facts["tried"].items():
        groups[what] += count
    rows = [f"| {what} | {count:,} |" for what, count in groups.items()]
    sums = ", ".join(f"{facts[key]} {key}" for key in ("lost", "tracebacks", "silent"))
    head = f"{facts['minutes']:g} minutes, seed {facts['seed']}: {sum(groups.values()):,} attacks, {sums}."
    return "\n".join([head, "", "| Attack | Times |", "| --- | ---: |", *rows, ""])
