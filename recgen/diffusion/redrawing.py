"""Image-to-image: images noised part of the way and denoised again under their items' texts (SDEdit, Meng et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from recgen.diffusion.backbone import Backbone
from recgen.diffusion.sampling import Sampling, scheduler


@torch.no_grad()
def redraw(
    backbone: Backbone,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    seeds: Sequence[int],
    strength: float,
    sampling: Sampling,
    embeddings: np.ndarray | None = None,
) -> Iterator[Image.Image]:
    """Yield each image as the pipeline would have drawn it, in order.

    Parameters
    ----------
    backbone
        A Stable-Diffusion pipeline.
    images, texts, seeds
        n RGB images, what the pipeline is told of each, and the seed of each one's noise.
    strength
        Share of the noise schedule that the images go back, above 0 and at most 1: ``strength * sampling.steps`` steps, rounded,
        and at least one.
    sampling
        Steps, sampler and batch size; guidance is not used, as what is wanted is the image and not its text.
    embeddings
        The images' own raw CLIP embeddings, float32 ``[n, D]``, for the pipeline's IP-Adapter at scale 1: a text names no style,
        and what an image is told of itself it keeps. None leaves the adapter out.

    Raises
    ------
    ValueError
        If `strength` is not above 0 and at most 1.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, not {strength}")
    for start in range(0, len(images), sampling.batch_size):
        here = slice(start, start + sampling.batch_size)
        shown = None if embeddings is None else embeddings[here]
        yield from _batch(backbone, images[here], texts[here], seeds[here], strength, sampling, shown)


def _batch(
    backbone: Backbone,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    seeds: Sequence[int],
    strength: float,
    sampling: Sampling,
    embeddings: np.ndarray | None,
) -> list[Image.Image]:
    schedule = scheduler(sampling.sampler, backbone.scheduler_config)
    schedule.set_timesteps(sampling.steps, device=backbone.device)
    first = sampling.steps - max(1, round(strength * sampling.steps))
    steps = schedule.timesteps[first:]
    if hasattr(schedule, "set_begin_index"):  # solvers of several steps count them; DDIM does not
        schedule.set_begin_index(first)
    noise = backbone.draw_noise([torch.Generator().manual_seed(seed) for seed in seeds])
    latents = schedule.add_noise(backbone.encode_images(images), noise, steps[:1].expand(len(images)))
    condition, pooled = backbone.embed_prompts(texts), backbone.pool_prompts(texts)
    shown = None if embeddings is None else torch.from_numpy(embeddings).to(backbone.device)
    for step in steps:
        given = schedule.scale_model_input(latents, step)
        predicted = backbone.predict(given, step.expand(len(images)), condition, pooled, shown)
        latents = schedule.step(predicted, step, latents).prev_sample
    return backbone.decoded(latents, seeds)
