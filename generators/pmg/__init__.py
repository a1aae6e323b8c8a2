"""PMG: a user's keywords and soft embeddings of them, weighed against the item (Shen et al., WWW 2024)."""

from typing import TYPE_CHECKING

from generators.pmg.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.pmg.generator import PMG

__all__ = ["PMG", "Settings"]

__getattr__ = exports(__name__, PMG="generator")
