"""The reflection module (section 4.5, eqs. 13-17): what the recommender makes of the images, and the losses that follow."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.ragar.settings import Settings


def rewards(
    generated: Tensor,
    reference: Tensor,
    keyword: Tensor,
    delta: float,
    sign: str = "corrected",
    clamp: bool = True,
) -> Tensor:
    """Return R_t ``[B, n]`` of eq. 14.

    Parameters
    ----------
    generated
        rho_gen ``[B, n]``, the ranking model's scores with each generated image in the item's place (eq. 13).
    reference, keyword
        rho_ref and rho_key ``[B]``, with the item's own image and with the one drawn from its words.
    delta
        Margin, added once to every reward; it cancels where rewards are centred.
    sign
        ``corrected`` rewards scores above those of reference and keyword image; ``as_printed`` is the equation to the letter,
        which rewards scores below them.
    clamp
        Eq. 14's max(0, .). Without it an image that scores below both still tells by how much.
    """
    others = torch.stack([reference, keyword], 1)[:, :, None]  # [B, 2, 1]
    above = generated[:, None] - others
    gained = above if sign == "corrected" else -above
    return (gained.clamp(min=0) if clamp else gained).sum(1) + delta


def advantages(values: Tensor) -> Tensor:
    """Return rewards ``[B, n]`` against the mean of the request's other samples, in units of their spread over the step.

    The mean of the others is a baseline that does not depend on the sample it is for, so the gradient stays unbiased. Against
    the mean of all, as here, the difference is (n - 1) / n of that: a factor of the step that the spread takes out. The spread
    makes beta mean the same for a ranking model that scores in logits and one that scores in thousandths. A single sample has no
    other and keeps its reward.
    """
    if values.shape[1] > 1:
        values = values - values.mean(1, keepdim=True)
    spread = values.square().mean().sqrt()
    return values / spread if spread > 0 else values


def rank_loss(means: Tensor, actions: Tensor, advantage: Tensor, sigma: float) -> Tensor:
    """Return L_rank of eq. 15 by REINFORCE: minus the mean of log N(action; mean, sigma^2) times its advantage.

    Parameters
    ----------
    means
        P_gen ``[B, ...]``, with gradient.
    actions
        P_gen + sigma eps ``[B, n, ...]``, without gradient.
    advantage
        ``[B, n]``, without gradient.
    sigma
        Scale of the policy. The density's constant is left out: it has no gradient.
    """
    distance = (actions.detach() - means[:, None]).flatten(2).square().sum(2)
    log_density = -distance / (2 * sigma**2)
    return -(log_density * advantage.detach()).mean()


def squared_distance(a: Tensor, b: Tensor, over_width: str) -> Tensor:
    """Return the squared distance of ``[B, width]`` and ``[B, width]``, its mean over the B requests, ``[]``.

    It is L_cal of eq. 10 (P_gen and P_ret) and L_sem of eq. 16 (E_m and E_sem of the reference).

    Parameters
    ----------
    over_width
        ``sum`` over the width, as both are printed, or ``mean``: then their weights alpha and gamma mean the same at any width.
    """
    squares = (a - b).square()
    return squares.sum(1).mean() if over_width == "sum" else squares.mean()


def total_loss(calibrator: Tensor, rank: Tensor, semantic: Tensor, settings: Settings) -> Tensor:
    """Return L of eq. 17, the weighted sum of three scalar losses; a scalar."""
    return settings.alpha * calibrator + settings.beta * rank + settings.gamma * semantic
