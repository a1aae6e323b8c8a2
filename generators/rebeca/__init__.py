"""REBECA: images from a diffusion prior over image embeddings, given a user (Patron et al., arXiv 2502.18477)."""

from typing import TYPE_CHECKING

from generators.rebeca.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.rebeca.generator import REBECA

__all__ = ["REBECA", "Settings"]

__getattr__ = exports(__name__, REBECA="generator")
