"""The report's section on the budget: what fewer images would have earned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recgen.metrics.registry import lookup
from recgen.report.run_files import RunFiles


@dataclass(frozen=True)
class Row:
    """One generator and order of drawing: the share of all gain that the first images earn."""

    generator: str
    order: str
    earned: list[str]


@dataclass(frozen=True)
class Section:
    """The section.

    Attributes
    ----------
    drawn, asked
        Images of a generator that were drawn and that were asked for.
    measure
        By what the gain was measured.
    shares
        Titles of the columns.
    rows
        Three orders a generator.
    nothing
        Generators without rows, for their images earn nothing as a whole, of which no share can be had.
    """

    drawn: int
    asked: int
    measure: str
    shares: list[str]
    rows: list[Row]
    nothing: list[str]


_ORDERS = {
    "earned": "by predicted gain times traffic",
    "random": "at random",
    "best": "in hindsight",
}


def section(run: RunFiles) -> Section | None:
    """Return the section; None for a run without a budget."""
    found = run.metrics.get("budget")
    if not found:
        return None
    first = next(iter(found["generators"].values()))
    rows = [row for name, each in found["generators"].items() for row in _rows(name, each)]
    shares = [f"{100 * share:.0f}%" for share in first["shares"]]
    nothing = [name for name, each in found["generators"].items() if each["earned"] is None]
    return Section(first["images"], found["asked"], lookup(first["metric"]).title, shares, rows, nothing)


def _rows(name: str, found: dict[str, Any]) -> list[Row]:
    return [
        Row(name, words, [f"{100 * value:.0f}%" for value in found[key]])
        for key, words in _ORDERS.items()
        if found[key] is not None
    ]
