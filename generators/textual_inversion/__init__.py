"""textual_inversion: learned words for the style that users like (Gal et al., ICLR 2023)."""

from typing import TYPE_CHECKING

from generators.textual_inversion.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.textual_inversion.generator import TextualInversion, Words, token

__all__ = ["Settings", "TextualInversion", "Words", "token"]

__getattr__ = exports(__name__, TextualInversion="generator", Words="generator", token="generator")
