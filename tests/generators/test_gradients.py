"""Gradients of a batch: the same in whatever parts, with memory that runs out in the middle, and in float16."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from generators.common.gradients import Gradients
from recgen.core.batching import Batcher
from recgen.core.errors import UserError

ROWS = (0.5, -1.0, 2.0, 0.25, 3.0)


def learner(dtype: torch.dtype = torch.float32):
    backbone = SimpleNamespace(batcher=Batcher(), pipeline=SimpleNamespace(unet=torch.zeros((), dtype=dtype)))
    weight = torch.tensor([2.0], requires_grad=True)
    return Gradients(backbone, [weight]), weight


def squares(weight):
    return lambda rows: torch.stack([(weight[0] * row) ** 2 for row in rows])


def test_the_sum_is_that_of_the_whole_batch():
    gradients, weight = learner()
    value = gradients.add(ROWS, squares(weight))
    mean = sum(row**2 for row in ROWS) / len(ROWS)
    assert value == pytest.approx(4 * mean) and weight.grad.item() == pytest.approx(4 * mean)


def test_memory_that_runs_out_in_the_backward_pass_adds_nothing_twice():
    gradients, weight = learner()
    exact = 4 * sum(row**2 for row in ROWS) / len(ROWS)

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value, count):
            ctx.count = count
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            if ctx.count > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return gradient, None

    value = gradients.add(ROWS, lambda rows: Fails.apply(squares(weight)(rows), len(rows)))
    assert value == pytest.approx(exact) and weight.grad.item() == pytest.approx(exact)


def test_small_gradients_survive_float16_and_large_ones_do_not_overflow():
    for size in (1e-4, 1.0):
        gradients, weight = learner(torch.float16)
        gradients.add([1.0], lambda rows, size=size, weight=weight: (weight.half() * size * 1e-3).float())
        assert weight.grad.item() == pytest.approx(size * 1e-3, rel=0.02)
    gradients, weight = learner(torch.float16)
    gradients.add([1.0], lambda rows: (weight.half() * 60000).float())
    assert weight.grad.item() == pytest.approx(60000, rel=0.01) and gradients._scale == 1


def test_gradients_that_are_not_finite_are_an_error():
    gradients, weight = learner()
    with pytest.raises(UserError, match="not finite"):
        gradients.add([0.0], lambda rows: weight * float("nan"))
