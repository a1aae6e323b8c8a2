"""I-AM-G: Interest Augmented Multimodal Generator (Wang et al., Findings of EMNLP 2024)."""

from typing import TYPE_CHECKING

from generators.iamg.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.iamg.generator import IAMG

__all__ = ["IAMG", "Settings"]

__getattr__ = exports(__name__, IAMG="generator")
