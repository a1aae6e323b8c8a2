"""dreambooth: the UNet fine-tuned to what groups of users like, as one LoRA per cluster (Ruiz et al., CVPR 2023)."""

from typing import TYPE_CHECKING

from generators.dreambooth.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.dreambooth.generator import DreamBooth

__all__ = ["DreamBooth", "Settings"]

__getattr__ = exports(__name__, DreamBooth="generator")
