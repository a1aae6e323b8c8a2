"""preferred: taste, with the IP-Adapter's keys and values learned further from which of its images are preferred."""

from typing import TYPE_CHECKING

from generators.preferred.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.preferred.generator import Preferred

__all__ = ["Preferred", "Settings"]

__getattr__ = exports(__name__, Preferred="generator")
