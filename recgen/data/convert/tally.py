"""Counts what a converter keeps, drops and changes, and why, with the first example of each."""

from __future__ import annotations

from typing import Any

_LONGEST_EXAMPLE = 120  # characters


class Tally:
    """What happened to the rows of raw files.

    Every count is by what it counts ("interactions") and, where something was dropped or changed, by the reason.
    """

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self._counts: dict[tuple[str, str, str], list[Any]] = {}

    def keep(self, what: str, count: int = 1) -> None:
        """Count something that was written."""
        self.kept[what] = self.kept.get(what, 0) + count

    def drop(self, what: str, why: str, example: str = "", count: int = 1) -> None:
        """Count something that was left out."""
        self._count("dropped", what, why, example, count)

    def change(self, what: str, why: str, example: str = "", count: int = 1) -> None:
        """Count something that was written otherwise than it came."""
        self._count("changed", what, why, example, count)

    def _count(self, kind: str, what: str, why: str, example: str, count: int) -> None:
        if count:
            entry = self._counts.setdefault((kind, what, why), [0, example[:_LONGEST_EXAMPLE]])
            entry[0] += count

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return the counts of `kind` ("dropped" or "changed") as plain values, largest first."""
        found = [
            {"what": what, "why": why, "count": count, "first": example}
            for (which, what, why), (count, example) in self._counts.items()
            if which == kind
        ]
        return sorted(found, key=lambda entry: -entry["count"])

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        kept = ", ".join(f"{count:,} {what}" for what, count in self.kept.items())
        lines = [f"kept: {kept}"]
        for kind in ("dropped", "changed"):
            for entry in self.entries(kind):
                example = f" (first: {entry['first']})" if entry["first"] else ""
                lines.append(f"{kind}: {entry['count']:,} {entry['what']}: {entry['why']}{example}")
        return lines
