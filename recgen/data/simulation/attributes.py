"""The visual vocabulary of the renderer: what a rendered image shows, and the words for it.

An image has four attributes. The *motif* is its content; *colour* (of the motif), *ground* (behind it) and *pattern* (on
the ground) are its style. Every word is a single lower-case token so that prompts, captions and tags agree.
"""

from __future__ import annotations

from typing import NamedTuple

MOTIFS = (
    "question", "bolt", "mountain", "star", "kite", "mask", "handcuffs", "camera", "tear", "castle",
    "fedora", "skull", "note", "key", "heart", "rocket", "dagger", "shield", "cactus",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "black")
GROUNDS = ("cream", "sky", "mint", "rose", "navy", "forest", "wine", "slate")
PATTERNS = ("plain", "stripes", "bars", "dots", "checks", "rings")

VOCABULARIES = (MOTIFS, COLOURS, GROUNDS, PATTERNS)
SIZES = tuple(len(words) for words in VOCABULARIES)
NAMES = ("motif", "colour", "ground", "pattern")


class Attributes(NamedTuple):
    """Four indices into `MOTIFS`, `COLOURS`, `GROUNDS` and `PATTERNS`."""

    motif: int
    colour: int
    ground: int
    pattern: int

    @property
    def words(self) -> tuple[str, str, str, str]:
        """The four words, in the order motif, colour, ground, pattern."""
        return MOTIFS[self.motif], COLOURS[self.colour], GROUNDS[self.ground], PATTERNS[self.pattern]


def caption(attributes: Attributes) -> str:
    """Return the sentence that names all four attributes."""
    motif, colour, ground, pattern = attributes.words
    return f"a {colour} {motif} on a {ground} ground with {pattern}"
