"""What an image has beyond its attributes, in degrees: image factors that no word of any vocabulary and no tag names.

Every factor is a number in [-1, 1]. That it is continuous is the point: a truth that reads it off an image sees how strongly it
was drawn, not only whether.
"""

from __future__ import annotations

from typing import NamedTuple


class Factors(NamedTuple):
    """The seven factors, each in [-1, 1].

    Attributes
    ----------
    stroke
        Width of the motif's outline: from a hair to a bold line.
    tilt
        Turn of the motif, to the left (-1) or to the right (1).
    scale
        Size of the motif.
    border
        Width of the image's frame; -1 is none.
    grain
        Strength of a film's grain over the image; -1 is none.
    warmth
        A cast over all colours, blue (-1) to yellow (1).
    saturation
        Of all colours.
    """

    stroke: float
    tilt: float
    scale: float
    border: float
    grain: float
    warmth: float
    saturation: float


FACTORS = Factors._fields
NEUTRAL = Factors(stroke=0, tilt=0, scale=0, border=-1, grain=-1, warmth=0, saturation=0)
"""The middle of what an image without factors of its own looks like."""
