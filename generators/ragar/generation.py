"""Image generation while training (eqs. 11-12): perturbed preferences, and the conditions of the images drawn from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generators.ragar.settings import Settings
from recgen.core.seeding import seed_for, torch_generator
from recgen.diffusion.conditions import Condition


def perturbations(
    keys: Sequence[str], shape: Sequence[int], step: int, run_seed: int, settings: Settings
) -> Tensor:
    """Return eps_t of eq. 11, float32 ``[B, n, *shape]``: mu = 0, and r noises per request, or r pairs of a noise and its mirror.

    Parameters
    ----------
    keys
        What identifies each request; a request's noises follow from it and the step, not from the batch.
    shape
        Shape of one action.
    step
        Step of the training.
    run_seed
        The run's seed.
    settings
        `r` and `pairs`.
    """
    rows = []
    for key in keys:
        generator = torch_generator(run_seed, f"ragar perturbation {step}", key)
        noise = torch.randn(settings.r, *shape, generator=generator)
        rows.append(torch.cat([noise, -noise]) if settings.pairs == "antithetic" else noise)
    return torch.stack(rows)


def decoding_seeds(
    keys: Sequence[str], count: int, step: int, run_seed: int, settings: Settings
) -> list[list[int]]:
    """Return the seeds of the decoding noise of each request's `count` images: one for all of them, or one each."""
    if settings.noise == "shared":
        return [[seed_for(run_seed, f"ragar decoding {step}", key)] * count for key in keys]
    return [[seed_for(run_seed, f"ragar decoding {step} {t}", key) for t in range(count)] for key in keys]


def conditions(
    actions: Tensor, texts: Sequence[str], seeds: Sequence[int], settings: Settings
) -> list[Condition]:
    """Return what the UNet draws v_gen from (eq. 12): actions ``[n, ...]``, of requests whose items' texts are `texts`.

    A preference is a raw image embedding ``[n, D]`` that goes through IP-Adapter beside the item's text; tokens ``[n, T, width]``
    are the whole text condition.
    """
    rows = actions.detach().float().cpu().numpy()
    if settings.action == "tokens":
        return [Condition(seed, prompt_embedding=row) for row, seed in zip(rows, seeds, strict=True)]
    return [
        Condition(seed, text, image_embedding=row) for row, text, seed in zip(rows, texts, seeds, strict=True)
    ]


def key_conditions(texts: Sequence[str], seeds: Sequence[int]) -> list[Condition]:
    """Return what the reference-like image v_key is drawn from (eq. 12): the item's own words alone."""
    return [Condition(seed, text) for text, seed in zip(texts, seeds, strict=True)]
