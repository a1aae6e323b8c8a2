"""The balance calibrator (eq. 10): general preference and retrieval-augmented preference, brought together.

What is calibrated is what decodes. With ``action: preference`` that is a point in the space of image embeddings, where P_ret
lives too, so nothing has to be projected: the general preference says how far to go from P_ret, and the loss is the length of
that way. With ``action: tokens`` it is P_gen averaged over its tokens, and P_ret is brought to the condition width by
IP-Adapter's own frozen projection, which was trained to make condition tokens of image embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Scale:
    """Where the catalogue's image embeddings lie: preferences are points in units of their standard deviations.

    Attributes
    ----------
    mean, deviation
        float32 ``[D]``.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Scale:
        """Measure raw embeddings ``[n, D]``; rows of NaN are items without a picture."""
        seen = torch.from_numpy(embeddings[np.isfinite(embeddings).all(axis=1)])
        return cls(seen.mean(0), seen.std(0, unbiased=False).clamp(min=1e-6))

    def apply(self, embeddings: Tensor) -> Tensor:
        """Raw embeddings ``[B, D]`` in standard deviations from the mean."""
        return (embeddings - self.mean) / self.deviation

    def invert(self, points: Tensor) -> Tensor:
        """The raw embeddings ``[..., D]`` of points."""
        return points * self.deviation + self.mean

    def to(self, device: torch.device) -> Scale:
        """The same on another device."""
        return Scale(self.mean.to(device), self.deviation.to(device))


class Calibrator(nn.Module):
    """Balances P_ret against the general preference, from no correction at all, so that training starts at P_ret.

    Two learned gains say how far to go on towards P_ret itself, for a mean of several pictures is more timid than any of them,
    and towards everything the user liked. A linear layer over P_gen and P_ret turns the rest; its inputs are scaled to about unit
    length, so that one learning rate suits either.

    Parameters
    ----------
    condition_width, dim
        Widths of P_gen and of the image embeddings.
    """

    def __init__(self, condition_width: int, dim: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.zeros(2))
        self.correct = nn.Linear(condition_width + dim, dim)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, general: Tensor, retrieved: Tensor, liked: Tensor) -> Tensor:
        """Return the preference ``[B, D]``, a point.

        Parameters
        ----------
        general
            P_gen averaged over its tokens ``[B, width]``.
        retrieved, liked
            P_ret and the mean of the whole history, points ``[B, D]``.
        """
        both = [general / general.shape[1] ** 0.5, retrieved / retrieved.shape[1] ** 0.5]
        towards = self.gains[0] * retrieved + self.gains[1] * liked
        return retrieved + towards + self.correct(torch.cat(both, 1))


def calibrator_loss(general: Tensor, retrieved: Tensor) -> Tensor:
    """Return L_cal, the mean over requests of the squared distance of ``[B, d]`` and ``[B, d]`` (eq. 10)."""
    return (general - retrieved).square().sum(1).mean()
