"""ip_adapter_mean: plain IP-Adapter on the mean of a history's image embeddings, with the item's text as prompt."""

from typing import TYPE_CHECKING

from generators.ip_adapter_mean.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.ip_adapter_mean.generator import IPAdapterMean

__all__ = ["IPAdapterMean", "Settings"]

__getattr__ = exports(__name__, IPAdapterMean="generator")
