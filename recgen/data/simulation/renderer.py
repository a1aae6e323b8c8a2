"""Draws a 64 x 64 poster from four attributes; the images of the embedded default and of the simulator."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_cdt

from recgen.data.simulation.attributes import COLOURS, GROUNDS, MOTIFS, PATTERNS, Attributes
from recgen.data.simulation.factors import NEUTRAL, Factors
from recgen.data.simulation.motifs import MASTER, silhouette

SIZE = 64
_CANVAS = 2 * SIZE  # drawn twice as large, then averaged down: smooth edges

_RGB = {
    "red": (214, 40, 40), "orange": (247, 127, 0), "yellow": (252, 211, 25), "green": (56, 158, 60),
    "teal": (0, 168, 160), "blue": (35, 90, 220), "purple": (132, 60, 180), "pink": (244, 114, 182),
    "white": (250, 250, 250), "black": (22, 22, 26),
    "cream": (247, 236, 210), "sky": (168, 212, 245), "mint": (176, 228, 196), "rose": (246, 190, 192),
    "navy": (24, 34, 84), "forest": (20, 70, 48), "wine": (92, 18, 44), "slate": (96, 104, 116),
}  # fmt: skip


TILT, SCALE, SCALE_SPAN = 35.0, 0.73, 0.2
"""Degrees at the ends of the tilt; edge of the motif's square as a share of the image's, and what the ends of the scale add."""
STROKE, STROKE_SPAN = 7.0, 0.95
"""Width of the outline, in pixels of a master silhouette, and the natural logarithm of what the ends multiply it with."""
BORDER, GRAIN, GRAIN_CELL = 10.0, 34.0, 8
"""Widest frame in pixels of the canvas, greatest deviation of the grain in levels, edge of a grain in pixels of the canvas."""
WARMTH, SATURATION = 24.0, 0.5
"""Levels that warmth adds to red and takes from blue, and share of the distance from grey that saturation adds, at 1."""
_JITTER = 0.4
"""Tints and shades vary less where warmth and saturation say how an image is tinted."""


def render(attributes: Attributes, seed: int, factors: Factors | None = None) -> Image.Image:
    """Return the image: RGB, 64 x 64.

    The seed moves the motif and shifts pattern and tints. Without `factors` it also turns and scales the motif a little, and the
    rest is neutral: see `seeded_factors`.
    """
    canvas, _ = _draw(attributes, seed, factors)
    a, b = canvas[:, 0::2], canvas[:, 1::2]
    pixels = (a[..., 0::2] + a[..., 1::2] + b[..., 0::2] + b[..., 1::2]) / 4
    return Image.fromarray(np.moveaxis(pixels.round().astype(np.uint8), 0, -1))


def render_mask(attributes: Attributes, seed: int, factors: Factors | None = None) -> Image.Image:
    """Return the true foreground of `render(attributes, seed, factors)`: mode L, 64 x 64, 255 on the motif and its outline."""
    _, edge = _draw(attributes, seed, factors)
    mask = edge.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3))
    return Image.fromarray((mask * 255).round().astype(np.uint8))


def seeded_factors(seed: int) -> Factors:
    """Return the factors that an image without any has by its seed: tilt and scale in a narrow band, the others neutral."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-10, 10), rng.uniform(0.66, 0.8)
    return NEUTRAL._replace(tilt=angle / TILT, scale=(scale - SCALE) / SCALE_SPAN)


def _draw(attributes: Attributes, seed: int, factors: Factors | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the canvas, float64 ``[3, canvas, canvas]`` in [0, 255], and motif with outline, ``[canvas, canvas]`` in [0, 1].

    Colours come first: numpy takes several times as long to spread values over a last axis of three.
    """
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-10, 10), rng.uniform(0.66, 0.8)
    dx, dy = rng.uniform(-7, 7, 2)
    phase = rng.uniform(0, 1, 2)
    tint, shade = rng.uniform(-10, 10, (2, 3))
    stroke = STROKE
    if factors is not None:
        angle, scale = TILT * factors.tilt, SCALE + SCALE_SPAN * factors.scale
        stroke = STROKE * math.exp(STROKE_SPAN * factors.stroke)
        tint, shade = _JITTER * tint, _JITTER * shade
    motif = _place(silhouette(attributes.motif), angle, scale, dx, dy)
    outline = _place(_grown(attributes.motif, stroke), angle, scale, dx, dy)
    ground = np.clip(np.array(_RGB[GROUNDS[attributes.ground]]) + tint, 0, 255)
    colour = np.clip(np.array(_RGB[COLOURS[attributes.colour]]) + shade, 0, 255)
    mark = _pattern(PATTERNS[attributes.pattern], phase)
    canvas = np.where(mark, _plane(_pattern_colour(ground)), _plane(ground))
    edge, body = (np.asarray(image, dtype=np.float64) / 255 for image in (outline, motif))
    canvas = canvas * (1 - edge) + _plane(_outline_colour(colour)) * edge
    canvas = canvas * (1 - body) + _plane(colour) * body
    if factors is not None:
        canvas = _finished(canvas, ground, factors, np.random.default_rng([seed, 1]))
    return canvas, edge


def _plane(colour: np.ndarray) -> np.ndarray:
    """Return a colour ``[3]`` as it is spread over a canvas, ``[3, 1, 1]``."""
    return colour[:, None, None]


def _finished(
    canvas: np.ndarray, ground: np.ndarray, factors: Factors, rng: np.random.Generator
) -> np.ndarray:
    """Return the canvas, float ``[3, canvas, canvas]``, with frame, cast, saturation and grain, in [0, 255]."""
    inner = np.minimum(np.arange(_CANVAS), np.arange(_CANVAS)[::-1])
    inside = np.minimum(inner[:, None], inner[None, :])
    frame = np.clip(BORDER * (factors.border + 1) / 2 - inside, 0, 1)
    canvas = canvas * (1 - frame) + _plane(_outline_colour(ground)) * frame
    grey = np.ascontiguousarray(np.moveaxis(canvas, 0, -1)) @ np.array((0.3, 0.59, 0.11))
    canvas = grey + (1 + SATURATION * factors.saturation) * (canvas - grey)
    canvas = canvas + WARMTH * factors.warmth * _plane(np.array((1.0, 0.0, -1.0)))
    cells = _CANVAS // GRAIN_CELL
    grain = np.kron(rng.standard_normal((cells, cells)), np.ones((GRAIN_CELL, GRAIN_CELL)))
    return np.clip(canvas + GRAIN * (factors.grain + 1) / 2 * grain, 0, 255)


@cache
def _distance(motif: int) -> np.ndarray:
    """How far each pixel of the master lies outside the silhouette, along the farther axis: int ``[256, 256]``."""
    return distance_transform_cdt(np.asarray(silhouette(motif)) == 0, metric="chessboard")


@lru_cache(maxsize=64)  # the motifs at the stroke of images without factors; of others strokes differ
def _grown(motif: int, stroke: float) -> Image.Image:
    """The silhouette with an outline's width added, so that a black motif shows on a dark ground."""
    return Image.fromarray((255 * np.clip(stroke + 1 - _distance(motif), 0, 1)).astype(np.uint8))


def _place(master: Image.Image, angle: float, scale: float, dx: float, dy: float) -> Image.Image:
    """Turn, scale and move a master silhouette onto the canvas."""
    factor = MASTER / (_CANVAS * scale)
    cos, sin = math.cos(math.radians(angle)) * factor, math.sin(math.radians(angle)) * factor
    centre = _CANVAS / 2
    x, y = centre + dx, centre + dy
    matrix = (cos, sin, MASTER / 2 - cos * x - sin * y, -sin, cos, MASTER / 2 + sin * x - cos * y)
    return master.transform((_CANVAS, _CANVAS), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _pattern(name: str, phase: np.ndarray) -> np.ndarray:
    """Return where the pattern marks the ground: bool ``[canvas, canvas]``."""
    period = 28.0
    y, x = np.ogrid[0:_CANVAS, 0:_CANVAS]
    y, x = y / period, x / period
    u, v = x + phase[0], y + phase[1]
    if name == "plain":
        return np.zeros((_CANVAS, _CANVAS), dtype=bool)
    if name == "stripes":
        return (u + v) % 1 < 0.5
    if name == "bars":
        return np.broadcast_to(u % 1 < 0.5, (_CANVAS, _CANVAS))
    if name == "dots":
        return np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.33
    if name == "checks":
        return (u % 2 < 1) ^ (v % 2 < 1)
    centre = (_CANVAS / period) / 2
    radius = np.hypot(x - centre - 0.4 * (phase[0] - 0.5), y - centre - 0.4 * (phase[1] - 0.5))
    return (radius * 1.1 + 0.25) % 1 < 0.5


def _pattern_colour(ground: np.ndarray) -> np.ndarray:
    """A shade of the ground that is seen on it: darker on light grounds, lighter on dark ones."""
    return ground * 0.78 if ground.mean() > 128 else ground + (255 - ground) * 0.28


def _outline_colour(colour: np.ndarray) -> np.ndarray:
    return np.array((245.0, 245.0, 245.0)) if colour.mean() < 110 else np.array((30.0, 30.0, 34.0))


_GENRE_MOTIF = {
    "unknown": "question", "action": "bolt", "adventure": "mountain", "animation": "star", "children": "kite",
    "comedy": "mask", "crime": "handcuffs", "documentary": "camera", "drama": "tear", "fantasy": "castle",
    "film-noir": "fedora", "horror": "skull", "musical": "note", "mystery": "key", "romance": "heart",
    "sci-fi": "rocket", "thriller": "dagger", "war": "shield", "western": "cactus",
}  # fmt: skip
_GENRE_COLOUR = {
    "unknown": "white", "action": "orange", "adventure": "green", "animation": "yellow", "children": "yellow",
    "comedy": "orange", "crime": "black", "documentary": "white", "drama": "blue", "fantasy": "purple",
    "film-noir": "black", "horror": "red", "musical": "pink", "mystery": "purple", "romance": "pink",
    "sci-fi": "teal", "thriller": "red", "war": "green", "western": "white",
}  # fmt: skip
_DECADE_GROUND = (
    "slate",
    "wine",
    "forest",
    "rose",
    "cream",
    "mint",
    "sky",
    "navy",
)  # 1920s and before ... 1990s and after

GENRE_OF_MOTIF = {motif: genre for genre, motif in _GENRE_MOTIF.items()}


def movie_attributes(genres: Sequence[str], year: int | None, token: str) -> Attributes:
    """Return the look of a film's rendered poster.

    Motif from the first genre, colour from the second (the first where there is only one), ground from the decade,
    pattern from the third genre, or from the item's token where there are fewer.
    """
    known = [g for g in (_genre(name) for name in genres) if g] or ["unknown"]
    second = known[1] if len(known) > 1 else known[0]
    decade = 7 if year is None else min(max((year - 1920) // 10, 0), 7)
    if len(known) > 2:
        pattern = sorted(_GENRE_MOTIF).index(known[2]) % len(PATTERNS)
    else:
        pattern = hashlib.blake2b(token.encode(), digest_size=4).digest()[0] % len(PATTERNS)
    return Attributes(
        MOTIFS.index(_GENRE_MOTIF[known[0]]),
        COLOURS.index(_GENRE_COLOUR[second]),
        GROUNDS.index(_DECADE_GROUND[decade]),
        pattern,
    )


def _genre(name: str) -> str | None:
    key = name.strip().lower().removesuffix("'s")
    return key if key in _GENRE_MOTIF else None
