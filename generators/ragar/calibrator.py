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
    directions
        float32 ``[m, D]``, the points' leading principal directions, each as long as the points' standard deviation along it.
    """

    mean: Tensor
    deviation: Tensor
    directions: Tensor

    @classmethod
    def of(cls, embeddings: np.ndarray, count: int) -> Scale:
        """Measure raw embeddings ``[n, D]`` (rows of NaN are items without an image), with at most `count` directions."""
        seen = torch.from_numpy(embeddings[np.isfinite(embeddings).all(axis=1)])
        mean, deviation = seen.mean(0), seen.std(0, unbiased=False).clamp(min=1e-6)
        _, lengths, axes = torch.linalg.svd((seen - mean) / deviation, full_matrices=False)
        axes = (
            axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        )  # a direction's sign is arbitrary: fix it
        return cls(mean, deviation, (lengths[:, None] / len(seen) ** 0.5 * axes)[:count].contiguous())

    def apply(self, embeddings: Tensor) -> Tensor:
        """Raw embeddings ``[B, D]`` in standard deviations from the mean."""
        return (embeddings - self.mean) / self.deviation

    def invert(self, points: Tensor) -> Tensor:
        """The raw embeddings ``[..., D]`` of points."""
        return points * self.deviation + self.mean

    def to(self, device: torch.device) -> Scale:
        """The same on another device."""
        return Scale(self.mean.to(device), self.deviation.to(device), self.directions.to(device))


class Calibrator(nn.Module):
    """Balances P_ret against the general preference, from no correction at all, so that training starts at P_ret.

    A correction has few coefficients: how far to go on towards P_ret itself (a mean of several images is more timid than any
    of them), how far towards everything the user liked, and along each leading direction of the catalogue. They are the action of
    the policy: what few numbers do can be learned from few images. One balance for all users and a linear layer over P_gen and
    P_ret make them; its inputs are scaled to about unit length, so that one learning rate suits either.

    Parameters
    ----------
    condition_width
        Width of P_gen.
    directions
        float32 ``[m, D]``, see `Scale`.
    """

    directions: Tensor

    def __init__(self, condition_width: int, directions: Tensor) -> None:
        super().__init__()
        count, dim = directions.shape
        self.register_buffer("directions", directions, persistent=False)
        self.balance = nn.Parameter(torch.zeros(2 + count))
        self.correct = nn.Linear(condition_width + dim, 2 + count, bias=False)
        nn.init.zeros_(self.correct.weight)

    def forward(self, general: Tensor, retrieved: Tensor) -> Tensor:
        """Return the coefficients ``[B, 2 + m]`` for P_gen averaged over tokens ``[B, width]`` and P_ret, points ``[B, D]``."""
        both = [general / general.shape[1] ** 0.5, retrieved / retrieved.shape[1] ** 0.5]
        return self.balance + self.correct(torch.cat(both, 1))

    def corrected(self, coefficients: Tensor, retrieved: Tensor, liked: Tensor) -> Tensor:
        """Return the preferences, points ``[B, n, D]``, of coefficients ``[B, n, 2 + m]``; P_ret and the mean of the history are
        points ``[B, D]``."""
        own = torch.stack([retrieved, liked], 1)
        return retrieved[:, None] + coefficients[..., :2] @ own + coefficients[..., 2:] @ self.directions


def calibrator_loss(general: Tensor, retrieved: Tensor) -> Tensor:
    """Return L_cal, the mean over requests of the squared distance of ``[B, d]`` and ``[B, d]`` (eq. 10)."""
    return (general - retrieved).square().sum(1).mean()
