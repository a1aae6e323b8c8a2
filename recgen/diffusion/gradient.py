"""Images as a differentiable function of their image condition: gradients through the last denoising steps and the decoder.

Back-propagating through the last K steps only, with the steps before them held fixed, is truncated back-propagation as in
DRaFT-K (Clark et al., ICLR 2024). Memory grows with K and the batch, not with the number of steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recgen.diffusion.backbone import Backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.latents import decode
from recgen.diffusion.sampling import Sampling, scheduler


class LastSteps:
    """The last K denoising steps and the decoder, for conditions whose steps before that have been taken.

    Parameters
    ----------
    backbone
        A Stable-Diffusion backbone with an IP-Adapter.
    conditions
        Conditions with image embeddings; all are one batch.
    sampling
        How they are sampled.
    last
        K, from 1 to ``sampling.steps``.

    Raises
    ------
    ValueError
        Without an IP-Adapter or an image embedding, or if `last` is not within the steps.
    """

    def __init__(
        self, backbone: Backbone, conditions: Sequence[Condition], sampling: Sampling, last: int
    ) -> None:
        if backbone.adapter is None:
            raise ValueError("gradients of an image condition need an IP-Adapter")
        if not 1 <= last <= sampling.steps:
            raise ValueError(f"last must be from 1 to {sampling.steps}, the number of steps, not {last}")
        self.backbone, self.sampling = backbone, sampling
        self._guided = sampling.guidance_scale > 1
        text = backbone.prompts.condition(conditions, self._guided)
        self._tokens = self._double(text, "prompt_embeds")
        self._pooled = self._double(text, "pooled_prompt_embeds") if "pooled_prompt_embeds" in text else None
        self._schedule = scheduler(sampling.sampler, backbone.scheduler_config)
        self._schedule.set_timesteps(sampling.steps, device=backbone.device)
        timesteps = self._schedule.timesteps
        self._before, self._after = timesteps[: len(timesteps) - last], timesteps[len(timesteps) - last :]
        noise = [torch.Generator().manual_seed(condition.seed) for condition in conditions]
        given = [each.image_embedding for each in conditions if each.image_embedding is not None]
        if len(given) < len(conditions):
            raise ValueError("every condition needs an image embedding")
        images = torch.from_numpy(np.stack(given))
        self._start = self._advance(
            backbone.draw_noise(noise) * self._schedule.init_noise_sigma, images.to(backbone.device)
        )

    def _double(self, text: dict[str, Tensor], name: str) -> Tensor:
        """Return what stands for no condition and then what stands for the conditions, if guidance asks for both."""
        return torch.cat([text[f"negative_{name}"], text[name]]) if self._guided else text[name]

    @torch.no_grad()
    def _advance(self, latents: Tensor, images: Tensor) -> Tensor:
        for timestep in self._before:
            latents = self._step(self._schedule, latents, timestep, images)
        return latents

    def pixels(self, images: Tensor) -> Tensor:
        """Return pixels ``[B, 3, h, w]`` from 0 to 1 for image embeddings ``[B, D]``, which gradients reach."""
        schedule, latents = copy.deepcopy(self._schedule), self._start
        for timestep in self._after:
            latents = self._step(schedule, latents, timestep, images)
        return decode(self.backbone.pipeline.vae, latents)

    def _step(self, schedule: Any, latents: Tensor, timestep: Tensor, images: Tensor) -> Tensor:
        """Take one step under classifier-free guidance; the negative image condition is zero."""
        pipeline, unet, guided = self.backbone.pipeline, self.backbone.pipeline.unet, self._guided
        pipeline.set_ip_adapter_scale(self.sampling.ip_adapter_scale)
        images = images.to(unet.dtype)[:, None]
        embeds = torch.cat([torch.zeros_like(images), images]) if guided else images
        double = torch.cat([latents, latents]) if guided else latents
        extra = {
            "image_embeds": [embeds],
            **pipeline.added_conditions(self._pooled, self.backbone.image_size),
        }
        predicted = unet(
            schedule.scale_model_input(double, timestep), timestep, self._tokens, added_cond_kwargs=extra
        ).sample
        if guided:
            without, within = predicted.chunk(2)
            predicted = without + self.sampling.guidance_scale * (within - without)
        return schedule.step(predicted, timestep, latents).prev_sample
