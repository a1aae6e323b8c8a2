"""Image conditions moved uphill: gradient ascent of a differentiable reward through the images that the conditions draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from generators.common.settings import Refinement
from recgen.diffusion.backbone import Backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.gradient import LastSteps
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import Encoder

Score = Callable[[Tensor], Tensor]
"""Takes raw image embeddings ``[B, D]`` of a batch's creatives to the reward's scores ``[B]``, differentiably."""


def likeness(images: Tensor, texts: Tensor) -> Tensor:
    """Return c ``[B]``, the cosines of embeddings ``[B, D]`` of images and of their items' texts."""
    return cosine_similarity(images, texts)


def objective(images: Tensor, texts: Tensor, floor: Tensor, score: Score, content: float) -> Tensor:
    """Return score(E(x)) - content max(0, c_0 - c) ``[B]`` of images' embeddings E(x) ``[B, D]``.

    c is the likeness of an image to its item's text ``[B, D]``, and c_0 ``[B]`` what it is not to fall below.
    """
    return score(images) - content * (floor - likeness(images, texts)).relu()


def refine(
    backbone: Backbone,
    encoder: Encoder,
    conditions: Sequence[Condition],
    texts: Tensor,
    score: Score,
    sampling: Sampling,
    settings: Refinement,
) -> list[Condition]:
    """Return the conditions with image embeddings that draw images of a higher score.

    For each condition, Adam maximises `objective` over the embedding e, with gradients through the last K denoising steps of the
    image x(e); c_0 is the likeness at the start. The best e of the path by that objective is kept, so that no condition ends
    below its start. Rows of a batch do not influence one another.

    Parameters
    ----------
    backbone, encoder
        What draws and what the reward sees with.
    conditions
        One batch, all with image embeddings.
    texts
        Text embeddings ``[B, D]`` of the items, in the encoder's space; a row of NaN is an item without a text, whose likeness
        to it is then not kept.
    score
        The reward.
    sampling
        How the images are sampled.
    settings
        Steps, K, rate and the hinge's weight.
    """
    if settings.steps == 0:
        return list(conditions)
    texts = texts.nan_to_num()  # of zeros every image has a likeness of 0
    images = LastSteps(backbone, conditions, sampling, min(settings.last, sampling.steps))
    start = torch.from_numpy(np.stack([np.asarray(each.image_embedding) for each in conditions]))
    scale = start.square().mean(1, keepdim=True).sqrt()
    change = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([change], lr=settings.rate)
    kept, best, floor = start.clone(), torch.full((len(start),), -torch.inf), None
    for step in range(settings.steps + 1):
        seen = encoder.pixels(images.pixels(start + scale * change))
        floor = likeness(seen, texts).detach() if floor is None else floor
        value = objective(seen, texts, floor, score, settings.content)
        better = value.detach() > best
        best = torch.where(better, value.detach(), best)
        kept[better] = (start + scale * change).detach()[better]
        if step < settings.steps:
            optimiser.zero_grad()
            (-value.sum()).backward()
            optimiser.step()
    return [
        replace(condition, image_embedding=row)
        for condition, row in zip(conditions, kept.numpy(), strict=True)
    ]
