"""The silhouettes of the renderer's motifs, drawn once each in the square [-1, 1] x [-1, 1] (y grows downwards)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw

from recgen.data.simulation.attributes import MOTIFS

MASTER = 256  # edge of a master silhouette, in pixels

Points = list[tuple[float, float]]


class Pen:
    """Draws filled shapes (`fill=True`) and holes (`fill=False`) in unit coordinates on a master silhouette."""

    def __init__(self) -> None:
        self.image = Image.new("L", (MASTER, MASTER), 0)
        self._draw = ImageDraw.Draw(self.image)

    @staticmethod
    def _pixels(points: Points) -> Points:
        return [((x + 1) * MASTER / 2, (y + 1) * MASTER / 2) for x, y in points]

    def polygon(self, points: Points, fill: bool = True) -> None:
        self._draw.polygon(self._pixels(points), fill=255 * fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: bool = True) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def oval(self, x: float, y: float, rx: float, ry: float | None = None, fill: bool = True) -> None:
        ry = rx if ry is None else ry
        (a, b), (c, d) = self._pixels([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse([a, b, c, d], fill=255 * fill)

    def ring(self, x: float, y: float, outer: float, inner: float) -> None:
        self.oval(x, y, outer)
        self.oval(x, y, inner, fill=False)

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, width: float, fill: bool = True
    ) -> None:
        (a, b), (c, d) = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.arc([a, b, c, d], start, end, fill=255 * fill, width=round(width * MASTER / 2))


def _question(pen: Pen) -> None:
    pen.arc(0, -0.4, 0.5, 180, 80, 0.26)
    pen.box(-0.13, 0.0, 0.13, 0.42)
    pen.oval(0, 0.75, 0.18)


def _bolt(pen: Pen) -> None:
    pen.polygon([(0.25, -0.95), (-0.55, 0.15), (-0.05, 0.15), (-0.3, 0.95), (0.6, -0.25), (0.08, -0.25)])


def _mountain(pen: Pen) -> None:
    pen.polygon([(-0.95, 0.7), (-0.3, -0.65), (0.1, 0.15), (0.35, -0.25), (0.95, 0.7)])
    pen.polygon(
        [(-0.3, -0.42), (-0.5, 0.0), (-0.38, -0.08), (-0.28, 0.06), (-0.17, -0.06), (-0.1, 0.0)], fill=False
    )


def _star(pen: Pen) -> None:
    turn = [math.pi * (i / 5 - 0.5) for i in range(10)]
    pen.polygon(
        [((0.95, 0.4)[i % 2] * math.cos(a), (0.95, 0.4)[i % 2] * math.sin(a)) for i, a in enumerate(turn)]
    )


def _kite(pen: Pen) -> None:
    pen.polygon([(0.1, -0.95), (0.65, -0.4), (0.1, 0.45), (-0.45, -0.4)])
    pen.polygon([(0.06, 0.4), (0.14, 0.4), (-0.3, 0.95), (-0.42, 0.9)])
    pen.polygon([(-0.5, 0.45), (0.0, 0.75), (0.06, 0.55), (-0.42, 0.68)])
    pen.box(0.07, -0.85, 0.13, 0.35, fill=False)
    pen.box(-0.35, -0.43, 0.55, -0.37, fill=False)


def _mask(pen: Pen) -> None:
    pen.box(-0.75, -0.8, 0.75, 0.0)
    pen.oval(0, 0.05, 0.75, 0.85)
    pen.oval(-0.33, -0.32, 0.2, 0.14, fill=False)
    pen.oval(0.33, -0.32, 0.2, 0.14, fill=False)
    pen.arc(0, 0.1, 0.46, 15, 165, 0.17, fill=False)


def _handcuffs(pen: Pen) -> None:
    pen.ring(-0.5, 0.25, 0.45, 0.26)
    pen.ring(0.5, 0.25, 0.45, 0.26)
    pen.arc(0, -0.15, 0.45, 200, 340, 0.18)


def _camera(pen: Pen) -> None:
    pen.box(-0.9, -0.4, 0.9, 0.65)
    pen.box(-0.35, -0.7, 0.35, -0.35)
    pen.oval(0, 0.12, 0.4, fill=False)
    pen.oval(0, 0.12, 0.24)


def _tear(pen: Pen) -> None:
    pen.oval(0, 0.35, 0.56)
    pen.polygon([(0, -0.95), (-0.53, 0.17), (0.53, 0.17)])


def _castle(pen: Pen) -> None:
    pen.box(-0.85, -0.2, 0.85, 0.85)
    for left in (-0.9, -0.18, 0.54):
        pen.box(left, -0.55, left + 0.36, 0.0)
        pen.polygon([(left - 0.06, -0.5), (left + 0.18, -0.95), (left + 0.42, -0.5)])
    pen.box(-0.2, 0.4, 0.2, 0.9, fill=False)
    pen.oval(0, 0.4, 0.2, fill=False)


def _fedora(pen: Pen) -> None:
    pen.oval(0, 0.45, 0.98, 0.28)
    pen.polygon(
        [(-0.55, 0.4), (-0.45, -0.5), (-0.15, -0.68), (0, -0.5), (0.15, -0.68), (0.45, -0.5), (0.55, 0.4)]
    )
    pen.box(-0.55, 0.1, 0.55, 0.24, fill=False)


def _skull(pen: Pen) -> None:
    pen.oval(0, -0.2, 0.75, 0.7)
    pen.box(-0.4, 0.2, 0.4, 0.85)
    pen.oval(-0.3, -0.15, 0.2, fill=False)
    pen.oval(0.3, -0.15, 0.2, fill=False)
    pen.polygon([(0, 0.08), (-0.1, 0.3), (0.1, 0.3)], fill=False)
    for x in (-0.16, 0.08):
        pen.box(x, 0.55, x + 0.08, 0.9, fill=False)


def _note(pen: Pen) -> None:
    for x in (-0.5, 0.45):
        pen.oval(x, 0.65, 0.3, 0.22)
        pen.box(x + 0.16, -0.8, x + 0.3, 0.65)
    pen.polygon([(-0.34, -0.7), (0.75, -0.9), (0.75, -0.55), (-0.34, -0.35)])


def _key(pen: Pen) -> None:
    pen.ring(0, -0.5, 0.42, 0.2)
    pen.box(-0.1, -0.15, 0.1, 0.95)
    pen.box(0.05, 0.45, 0.42, 0.6)
    pen.box(0.05, 0.75, 0.34, 0.92)


def _heart(pen: Pen) -> None:
    pen.oval(-0.42, -0.28, 0.47)
    pen.oval(0.42, -0.28, 0.47)
    pen.polygon([(-0.86, -0.1), (0.86, -0.1), (0, 0.9)])
    pen.box(-0.4, -0.3, 0.4, 0.1)


def _rocket(pen: Pen) -> None:
    pen.oval(0, -0.1, 0.36, 0.85)
    pen.polygon([(-0.3, 0.1), (-0.75, 0.7), (-0.2, 0.55)])
    pen.polygon([(0.3, 0.1), (0.75, 0.7), (0.2, 0.55)])
    pen.polygon([(-0.18, 0.72), (0, 0.98), (0.18, 0.72)])
    pen.oval(0, -0.3, 0.16, fill=False)


def _dagger(pen: Pen) -> None:
    pen.polygon([(-0.17, -0.1), (0.17, -0.1), (0.12, 0.6), (0, 0.97), (-0.12, 0.6)])
    pen.box(-0.55, -0.25, 0.55, -0.08)
    pen.box(-0.1, -0.75, 0.1, -0.2)
    pen.oval(0, -0.8, 0.17)


def _shield(pen: Pen) -> None:
    pen.box(-0.72, -0.8, 0.72, 0.05)
    pen.oval(0, 0.0, 0.72, 0.6)
    pen.polygon([(-0.66, 0.2), (0.66, 0.2), (0, 0.97)])
    pen.box(-0.09, -0.6, 0.09, 0.6, fill=False)
    pen.box(-0.5, -0.28, 0.5, -0.1, fill=False)


def _cactus(pen: Pen) -> None:
    pen.oval(0, -0.62, 0.24)
    pen.box(-0.24, -0.62, 0.24, 0.95)
    for side in (-1, 1):
        pen.box(
            min(side * 0.2, side * 0.72), 0.08 - 0.1 * side, max(side * 0.2, side * 0.72), 0.3 - 0.1 * side
        )
        pen.box(
            min(side * 0.5, side * 0.72), -0.35 - 0.1 * side, max(side * 0.5, side * 0.72), 0.3 - 0.1 * side
        )
        pen.oval(side * 0.61, -0.35 - 0.1 * side, 0.11)


_DRAW: dict[str, Callable[[Pen], None]] = {word: globals()[f"_{word}"] for word in MOTIFS}


@cache
def silhouette(motif: int) -> Image.Image:
    """Return the master silhouette of a motif: mode L, `MASTER` x `MASTER`, 255 inside."""
    pen = Pen()
    _DRAW[MOTIFS[motif]](pen)
    return pen.image
