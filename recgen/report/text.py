"""Numbers and names as people read them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

MINUS = "\u2212"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Format a value with `digits` decimals, a true minus sign, and a dash for what was not measured.

    Examples
    --------
    >>> number(-0.12345), number(0.5, 2, signed=True), number(None), number(123456.7, 1)
    ('−0.123', '+0.50', '–', '123,456.7')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")  # no sign on what rounds to nothing
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Format an interval.

    Examples
    --------
    >>> interval(-0.1, 0.25, 2), interval(None, None)
    ('−0.10 to 0.25', 'no interval')
    """
    if low is None or high is None:
        return "no interval"
    return f"{number(low, digits)} to {number(high, digits)}"


def p_value(p: float | None) -> str:
    """Format a p-value.

    Examples
    --------
    >>> p_value(0.000999), p_value(0.0412), p_value(None)
    ('p < 0.001', 'p = 0.041', 'no p-value')
    """
    if p is None:
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def share(value: float) -> str:
    """Format a share of 1 as a percentage; of less than one percent a decimal is shown.

    Examples
    --------
    >>> share(0.127), share(0.005), share(0)
    ('13%', '0.5%', '0%')
    """
    return f"{100 * value:.{1 if 0 < value < 0.01 else 0}f}%"


def shorten(text: str, length: int = 140) -> str:
    """One line of printable text, cut at a word where it is too long.

    Examples
    --------
    >>> shorten("A\\x00 long\\ntitle of a film", 14), shorten("x" * 30, 10)
    ('A long title…', 'xxxxxxxxxx…')
    """
    # four times the length fills a line, however the text is spaced; a title may have a million characters
    start = text[: 4 * length]
    clean = "".join(
        " " if c.isspace() else c for c in start if c.isspace() or unicodedata.category(c)[0] != "C"
    )
    line = " ".join(clean.split())
    if len(line) <= length and len(start) == len(text):
        return line
    cut = (
        line[:length].rsplit(" ", 1)[0]
        if " " in line[:length] and line[length : length + 1].strip()
        else line[:length]
    )
    return cut.rstrip(" .,;:") + "…"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does.

    Examples
    --------
    >>> listed(["taste"]), listed(["taste", "ragar", "pmg"])
    ('taste', 'taste, ragar and pmg')
    """
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def duration(seconds: float) -> str:
    """Format a time.

    Examples
    --------
    >>> duration(0.04), duration(75.2), duration(7260)
    ('under 1 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
    )


def plain(value: Any) -> str:
    """Format a fact of a run: numbers with separators, lists and mappings without brackets.

    Examples
    --------
    >>> plain(100000), plain({"seeds": 5, "mix_weight": 0.5}), plain(None), plain(True)
    ('100,000', 'seeds 5, mix_weight 0.5', 'none', 'yes')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(plain(part) for part in value)
    return shorten(str(value))
