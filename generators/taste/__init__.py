"""taste: images of an item in the style that the recommender, and the user's own likes, say this user prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generators.taste.settings import Settings

if TYPE_CHECKING:
    from generators.taste.generator import Taste

__all__ = ["Settings", "Taste"]


def __getattr__(name: str) -> Any:
    """Import the generator, and torch with it, when it is first asked for."""
    if name == "Taste":
        from generators.taste.generator import Taste

        return Taste
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
