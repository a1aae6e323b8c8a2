"""How strongly style is shown: the strengths that please most among those under which the item stays what it is.

Every candidate draws the same few training likes. An image keeps its item if, in every content group of the vocabulary, the
phrase closest to it is the one closest to the item's own image; the share of images that do is compared with the share when the
text alone is drawn. No truth of a simulator is read. How well this agrees with the simulator's reading is measured by
`experiments/taste`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from recgen.diffusion.sampling import Sampling

_SCALES, _MORE_GUIDANCE = (0.25, 0.5, 0.75, 1.0), 5 / 3


@dataclass(frozen=True)
class Strength:
    """One way to draw.

    Attributes
    ----------
    words
        How many words of style the prompt has, at most.
    scale
        The IP-Adapter's; 0 shows no image.
    guidance
        The scale of classifier-free guidance.
    """

    words: int
    scale: float
    guidance: float

    def sampling(self, decode: Sampling) -> Sampling:
        """Return how images are sampled under this strength."""
        return decode.model_copy(update={"ip_adapter_scale": self.scale, "guidance_scale": self.guidance})

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Tried:
    """What a strength did: the share of images that keep their item, and the mean opinion that (6) has of them, in logits."""

    strength: Strength
    kept: float
    opinion: float

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {**self.strength.as_json(), "kept": self.kept, "opinion": self.opinion}


def full(show: Literal["image", "words", "both"], groups: int, decode: Sampling) -> Strength:
    """Return the strength that `decode` and the vocabulary allow at most."""
    words = 0 if show == "image" else groups
    scale = 0.0 if show == "words" else decode.ip_adapter_scale
    return Strength(words, scale, decode.guidance_scale)


def candidates(show: Literal["image", "words", "both"], groups: int, decode: Sampling) -> list[Strength]:
    """Return the strengths to try first: those of the image at the words and guidance that there are, the gentlest first."""
    most = full(show, groups, decode)
    return [replace(most, scale=scale) for scale in sorted({most.scale * share for share in _SCALES})]


def around(strength: Strength) -> list[Strength]:
    """Return what to try next to the best so far: one word less, and more guidance where there is any."""
    fewer = [replace(strength, words=strength.words - 1)] if strength.words > 1 else []
    more = [replace(strength, guidance=strength.guidance * _MORE_GUIDANCE)] if strength.guidance > 1 else []
    return [*fewer, *more]


def choose(tried: Sequence[Tried], text_kept: float, keep: float) -> Strength:
    """Return the strength of the best opinion among those that keep `keep` times `text_kept`; if none does, of the most kept."""
    fine = [each for each in tried if each.kept >= keep * text_kept]
    if fine:
        return max(fine, key=lambda each: each.opinion).strength
    return max(tried, key=lambda each: (each.kept, each.opinion)).strength
