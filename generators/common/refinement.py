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

    For each condition, Adam maximises score(E(x(e))) - content max(0, c_0 - c(e)) over the embedding e, where x(e) is the image
    with gradients through its last K denoising steps, E the encoder, c the cosine of E(x) and the item's text embedding and c_0
    its value at the start. The best e of the path by that objective is kept, so that no condition ends below its start. Rows of
    a batch do not influence one another.

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
        likeness = cosine_similarity(seen, texts)
        floor = likeness.detach() if floor is None else floor
        value = score(seen) - settings.content * (floor - likeness).relu()
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
