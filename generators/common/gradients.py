"""Gradients of a batch's mean loss, in parts that memory holds: the same sum however it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from recgen.core.errors import UserError
from recgen.diffusion.backbone import Backbone

T = TypeVar("T")
_SCALE = 2.0**14


class Gradients:
    """Adds up gradients with respect to some parameters, which are float32 whatever the backbone's type.

    Behind a backbone in float16 the loss is multiplied so that small gradients do not become zero on their way, and the factor is
    halved where they overflow instead.

    Parameters
    ----------
    backbone
        What the loss goes through.
    trained
        The parameters.
    """

    def __init__(self, backbone: Backbone, trained: Iterable[Tensor]) -> None:
        self.backbone, self.trained = backbone, list(trained)
        self._scale = _SCALE if backbone.pipeline.unet.dtype == torch.float16 else 1.0

    def add(self, rows: Sequence[T], losses: Callable[[Sequence[T]], Tensor]) -> float:
        """Add the gradients of the mean of `losses` over rows to the parameters', and return that mean.

        Parameters
        ----------
        rows
            A batch; a row's loss must not depend on the rows beside it.
        losses
            Of some of them, ``[B]``.

        Raises
        ------
        UserError
            If memory does not suffice for one row, or gradients are not finite.
        """

        def part(some: Sequence[T]) -> float:
            return self._part(losses, some, len(rows))

        return sum(self.backbone.batcher.map("training", rows, len(rows), part))

    def _part(self, losses: Callable[[Sequence[T]], Tensor], rows: Sequence[T], count: int) -> float:
        while True:
            value = losses(rows).sum() / count
            # not backward(): where memory runs out in the middle, nothing has been added yet
            found = torch.autograd.grad(value * self._scale, self.trained, allow_unused=True)
            if all(gradient is None or bool(gradient.isfinite().all()) for gradient in found):
                break
            if self._scale == 1:
                raise UserError(
                    "training",
                    found=f"gradients that are not finite, with a loss of {value.item():g}",
                    expected="finite ones",
                    todo="Where recgen.precision is fp16, set bf16 or float32; else lower the learning rate.",
                )
            self._scale /= 2
        for parameter, gradient in zip(self.trained, found, strict=True):
            if gradient is not None:
                gradient = gradient / self._scale
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return value.item()
