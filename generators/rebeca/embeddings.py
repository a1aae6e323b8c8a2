"""The space the prior diffuses in: CLIP image embeddings, standardised per dimension."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Standardisation:
    """An invertible map between raw embeddings and ones of mean 0 and variance 1 in every dimension.

    Attributes
    ----------
    mean, scale
        float32 ``[D]``.
    bound
        float32 ``[]``: the largest absolute standardised value seen; samples are kept within it.
    """

    mean: Tensor
    scale: Tensor
    bound: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> Standardisation:
        """Measure raw embeddings, float32 ``[n, D]``."""
        mean, scale = raw.mean(dim=0), raw.std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * scale.max(), scale, torch.ones_like(scale))
        return cls(mean, scale, ((raw - mean) / scale).abs().max().clamp_min(1.0))

    def apply(self, raw: Tensor) -> Tensor:
        """Standardise float32 ``[n, D]``."""
        return (raw - self.mean) / self.scale

    def invert(self, standardised: Tensor) -> Tensor:
        """Return raw embeddings, float32 ``[n, D]``."""
        return standardised * self.scale + self.mean
