"""Image embeddings made comparable: each dimension to mean 0 and variance 1 over a catalogue."""

from __future__ import annotations

import torch
from torch import nn

SMALLEST_DEVIATION = 1e-6


class Standardise(nn.Module):
    """(e - mean) / deviation per dimension, over the distinct rows of a catalogue; the two are saved with the model.

    Items without an image share one row, which counts once and so does not shrink the deviation.

    Parameters
    ----------
    raw
        float ``[n, D]``, the catalogue's raw embeddings.
    on
        False leaves embeddings as they are.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, raw: torch.Tensor, on: bool) -> None:
        super().__init__()
        mean, deviation = torch.zeros(raw.shape[1]), torch.ones(raw.shape[1])
        if on:
            distinct = raw.unique(dim=0)
            mean = distinct.mean(0)
            if len(distinct) > 1:
                deviation = distinct.std(0).clamp(min=SMALLEST_DEVIATION)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Standardise raw embeddings ``[B, D]``."""
        return (embeddings - self.mean) / self.deviation
