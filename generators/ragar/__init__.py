"""RAGAR: images from what a user liked that resembles the item, learned from a recommender (Ling et al., IJCAI 2025)."""

from typing import TYPE_CHECKING

from generators.ragar.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.ragar.generator import RAGAR

__all__ = ["RAGAR", "Settings"]

__getattr__ = exports(__name__, RAGAR="generator")
