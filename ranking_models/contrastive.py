"""MICRO's contrastive loss between two views of the items (specification section 4.5), never with an N x N matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize

ROWS_PER_CHUNK = 256


class _ContrastiveLoss(torch.autograd.Function):
    """Loss and gradients in one pass over row chunks: nothing of size S x S is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, temperature: float, scale: float) -> torch.Tensor:
        n, d = a.shape
        both = torch.cat([a, b])
        scaled = a / temperature
        grad_both, grad_a = torch.zeros_like(both), torch.zeros_like(a)
        logits = a.new_empty(min(ROWS_PER_CHUNK, n), 2 * n)
        total = a.new_zeros(())
        for start in range(0, n, ROWS_PER_CHUNK):
            stop = min(start + ROWS_PER_CHUNK, n)
            rows, own = (
                torch.arange(stop - start, device=a.device),
                torch.arange(start, stop, device=a.device),
            )
            terms = torch.mm(scaled[start:stop], both.T, out=logits[: stop - start]).exp_()
            positive = terms[rows, n + own].clone()
            terms[rows, own] = 0
            terms[rows, n + own] = (
                positive / scale
            )  # the positive is always in the sum: it stands for itself only
            denominator = terms.sum(1).mul_(scale)
            total += (denominator.log() - positive.log()).sum()
            terms.mul_((scale / (denominator * temperature * n))[:, None])
            torch.mm(terms, both, out=grad_a[start:stop])
            grad_both.addmm_(terms.T, a[start:stop])
        grad_a += grad_both[:n]
        grad_a -= b / (temperature * n)
        ctx.save_for_backward(grad_a, grad_both[n:] - a / (temperature * n))
        return total / n

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        (grad,), (grad_a, grad_b) = grads, ctx.saved_tensors
        return grad * grad_a, grad * grad_b, None, None


def contrastive_loss(a: torch.Tensor, b: torch.Tensor, temperature: float, population: int) -> torch.Tensor:
    """Return C(a, b) of section 4.5 over the given items.

    C is the mean over items i of -log(e^{cos(a_i,b_i)/t} / (sum_{j != i} e^{cos(a_i,a_j)/t} + sum_j e^{cos(a_i,b_j)/t})).

    Parameters
    ----------
    a, b
        Two views of the same items, float ``[S, d]``; not normalised.
    temperature
        t.
    population
        How many items the S are a uniform sample of. The sums over other items are scaled by (population - 1) / (S - 1),
        which makes each an unbiased estimate of the sum over the whole catalogue; with S = population C is exact.
    """
    scale = (population - 1) / (len(a) - 1) if len(a) > 1 else 1.0
    return _ContrastiveLoss.apply(normalize(a), normalize(b), temperature, scale)  # type: ignore[no-untyped-call]
