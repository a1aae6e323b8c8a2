"""What the report's plots are drawn with: colours, a canvas, and its way into the page as inline SVG with the page's own font."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recgen.report.text import shorten

# Okabe and Ito's colours, which people with any colour vision can tell apart; the original images are grey
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY, INK = "#8a8f98", "#1f2430"
SOFT, RULE = "#5b616e", "#c9cdd4"
FOLLOWS = {INK: "currentColor", SOFT: f"var(--soft, {SOFT})", RULE: f"var(--rule, {RULE})"}
"""By colour what stands for it in the page, so that words and axes are seen on a dark ground as well as PALETTE and GREY are."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
PANEL = (3.75, 2.5)  # inches; three panels fill the page's width


@dataclass(frozen=True)
class Plot:
    """A figure of the report, one or more `<svg>` drawings; `alt` says in words what they show."""

    title: str
    caption: str
    alt: str
    drawings: list[str]


def panels(names: Sequence[str], draw: Callable[[Axes, str, str], None], salt: str) -> list[str]:
    """One small drawing per name; the page sets them side by side, as many as its width takes."""
    drawings = []
    for index, name in enumerate(names):
        figure, axes = canvas(*PANEL)
        draw(axes, name, PALETTE[index % len(PALETTE)])
        axes.set_title(shorten(name, 40))
        drawings.append(svg(figure, f"{salt}-{index}"))
    return drawings


def canvas(width: float, height: float, left: float = 0.7) -> tuple[Figure, Axes]:
    """A figure with one panel, in inches.

    Margins are fixed rather than fitted: fitting draws every figure twice, and took most of the report's time.
    """
    bottom, top, right = 0.55, 0.3, 0.2
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure, figure.subplots()


def svg(figure: Figure, salt: str) -> str:
    """The figure as an `<svg>` element whose ids no other plot of the page uses."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    # a width in points would overflow a narrow window; ids such as axes_1 repeat from figure to figure
    drawing = re.sub(r'<svg ([^>]*?)height="[\d.]+pt"', r"<svg \1", drawing, count=1)
    drawing = re.sub(r'width="([\d.]+)pt"', r'style="width:\1pt"', drawing, count=1)
    for colour, page in FOLLOWS.items():
        drawing = drawing.replace(colour, page)
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{salt}-", drawing)
