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

_COMPONENTS = 8
_SPEED = 200.0
_LEAST = 1e-3  # a component with less of the first one's deviation is noise


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
        return cls(
            mean, deviation, (lengths[:, None] / len(seen) ** 0.5 * _signed(axes))[:count].contiguous()
        )

    def apply(self, embeddings: Tensor) -> Tensor:
        """Raw embeddings ``[B, D]`` in standard deviations from the mean."""
        return (embeddings - self.mean) / self.deviation

    def invert(self, points: Tensor) -> Tensor:
        """The raw embeddings ``[..., D]`` of points."""
        return points * self.deviation + self.mean

    def to(self, device: torch.device) -> Scale:
        """The same on another device."""
        return Scale(self.mean.to(device), self.deviation.to(device), self.directions.to(device))


class Whitening(nn.Module):
    """The leading principal components of some features, centred and of unit variance: so many inputs at whatever width.

    Parameters
    ----------
    width
        Of the features.
    count
        Components; those that the features do not have are 0.
    """

    centre: Tensor
    basis: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, count))

    @torch.no_grad()
    def measure(self, rows: Tensor) -> None:
        """Take the components of features ``[n, width]``."""
        centred = rows - rows.mean(0)
        _, lengths, axes = torch.linalg.svd(centred, full_matrices=False)
        deviations = lengths / len(rows) ** 0.5
        used = min(len(deviations), self.basis.shape[1])
        found = _signed(axes[:used]).T / deviations[:used]
        found[:, deviations[:used] < _LEAST * deviations[0].clamp(min=1e-12)] = 0
        self.centre.copy_(rows.mean(0))
        self.basis.zero_()
        self.basis[:, :used] = found

    def forward(self, rows: Tensor) -> Tensor:
        """Return the components ``[B, count]`` of features ``[B, width]``."""
        return (rows - self.centre) @ self.basis


def _signed(axes: Tensor) -> Tensor:
    """Return axes ``[m, D]`` with their largest entry positive: the sign that a decomposition gives them is arbitrary."""
    return axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()


class Calibrator(nn.Module):
    """Balances P_ret against the general preference, from no correction at all, so that training starts at P_ret.

    A correction has few coefficients: how far to go on towards P_ret itself (a mean of several images is more timid than any
    of them), how far towards everything the user liked, and along each leading direction of the catalogue. They are the action of
    the policy: what few numbers do can be learned from few images. A balance for all users, and a linear layer over the leading
    components of P_gen, of E_m (what the language model says) and of P_ret make them.

    Coefficients are about 1; the language model's weights may move by thousandths before what it says is no longer what was
    measured. `_SPEED` is the factor that lets one learning rate suit both. The number of inputs and their scale do not depend on
    any width, so neither does the pace of learning.

    Parameters
    ----------
    condition_width
        Width of P_gen and E_m.
    directions
        float32 ``[m, D]``, see `Scale`.
    """

    directions: Tensor

    def __init__(self, condition_width: int, directions: Tensor) -> None:
        super().__init__()
        count, dim = directions.shape
        self.register_buffer("directions", directions, persistent=False)
        widths = {"general": condition_width, "language": condition_width, "retrieved": dim}
        self.inputs = nn.ModuleDict({name: Whitening(width, _COMPONENTS) for name, width in widths.items()})
        self.balance = nn.Parameter(torch.zeros(2 + count))
        self.correct = nn.Linear(len(widths) * _COMPONENTS, 2 + count, bias=False)
        nn.init.zeros_(self.correct.weight)

    def measure(self, general: Tensor, language: Tensor, retrieved: Tensor) -> None:
        """Take the leading components of what `forward` will be given, of the training examples ``[n, ...]``."""
        for whitening, rows in zip(self.inputs.values(), (general, language, retrieved), strict=True):
            whitening.measure(rows)  # type: ignore[operator]

    def forward(self, general: Tensor, language: Tensor, retrieved: Tensor) -> Tensor:
        """Return the coefficients ``[B, 2 + m]``.

        Parameters
        ----------
        general, language
            P_gen and E_m averaged over their tokens, ``[B, width]``.
        retrieved
            P_ret, points ``[B, D]``.
        """
        rows = (general, language, retrieved)
        inputs = [whitening(given) for whitening, given in zip(self.inputs.values(), rows, strict=True)]
        return _SPEED * (self.balance + self.correct(torch.cat(inputs, 1)))

    def corrected(self, coefficients: Tensor, retrieved: Tensor, liked: Tensor) -> Tensor:
        """Return the preferences, points ``[B, n, D]``, of coefficients ``[B, n, 2 + m]``; P_ret and the mean of the history are
        points ``[B, D]``."""
        own = torch.stack([retrieved, liked], 1)
        return retrieved[:, None] + coefficients[..., :2] @ own + coefficients[..., 2:] @ self.directions
