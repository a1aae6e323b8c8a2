"""taste: images of an item in the style that the recommender, and the user's own likes, say this user prefers."""

from typing import TYPE_CHECKING

from generators.taste.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.taste.generator import Taste

__all__ = ["Settings", "Taste"]

__getattr__ = exports(__name__, Taste="generator")
