"""What generators that train against the frozen UNet share: its loss, images as latents, and noise that no batch changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from generators.common.settings import MEASURED
from recgen.core.batching import Batcher
from recgen.core.seeding import torch_generator
from recgen.data.images import read_image
from recgen.data.types import RunData
from recgen.diffusion.backbone import Backbone

_AT_ONCE = 64  # images encoded together
_HELD_OUT_DRAWS = 4  # noises and times at which a held-out reference's loss is measured
T = TypeVar("T")


def denoising_target(
    noise_scheduler: DDPMScheduler, clean: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Return what the UNet is asked for: the noise, the velocity or the clean latents, by the process's prediction type."""
    kind = noise_scheduler.config.prediction_type
    if kind == "v_prediction":
        return noise_scheduler.get_velocity(clean, noise, timesteps)
    return {"epsilon": noise, "sample": clean}[kind]


def denoising_losses(
    backbone: Backbone,
    condition: Tensor,
    clean: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    pooled: Tensor | None = None,
    **more: Any,
) -> Tensor:
    """Return each row's mean squared error of the UNet's prediction, ``[B]``.

    Parameters
    ----------
    backbone
        Predicts; nothing of it changes.
    condition
        ``[B, T, width]``; gradients reach it.
    clean, noise
        Latents of the references and what is mixed into them, ``[B, channels, h, w]``.
    timesteps
        int64 ``[B]``.
    pooled
        Stable Diffusion XL's pooled embeddings ``[B, P]``, as `Backbone.predict` takes them.
    more
        `images`, `interest` and `image_scale`, as `Backbone.predict` takes them.
    """
    noise_scheduler = backbone.noise_scheduler
    predicted = backbone.predict(
        noise_scheduler.add_noise(clean, noise, timesteps), timesteps, condition, pooled, **more
    )
    target = denoising_target(noise_scheduler, clean, noise, timesteps)
    return functional.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)


@torch.no_grad()
def held_out_loss(
    losses: Callable[[str, Sequence[T]], Tensor], held_out: Sequence[T], stage: str, batcher: Batcher
) -> float:
    """Return the mean of `losses` of a stage and references, at noises and times that are the same at every call."""
    found = [
        part
        for draw in range(_HELD_OUT_DRAWS)
        for part in batcher.map("measuring", held_out, MEASURED, partial(losses, f"{stage} {draw}"))
    ]
    return torch.cat(found).mean().item()


def image_latents(backbone: Backbone, data: RunData, rows: Iterable[int]) -> dict[int, Tensor]:
    """Return the latents ``[1, channels, h, w]``, on the CPU, of the images of catalogue rows, each of which has one."""
    wanted = sorted(set(rows))
    found: dict[int, Tensor] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        block = wanted[start : start + _AT_ONCE]
        images = [read_image(path) for row in block if (path := data.images[row]) is not None]
        found |= dict(zip(block, backbone.encode_images(images).cpu().split(1), strict=True))
    return found


def draw_noise(
    backbone: Backbone, shape: Iterable[int], run_seed: int, stage: str, keys: Iterable[tuple[str, str]]
) -> tuple[Tensor, Tensor]:
    """Return noise ``[B, *shape]`` and times int64 ``[B]``, a row of which follows from run seed, stage and its key alone."""
    noise, timesteps = [], []
    for user, item in keys:
        generator = torch_generator(run_seed, stage, user, item)
        noise.append(torch.randn(*shape, generator=generator))
        timesteps.append(
            torch.randint(backbone.noise_scheduler.config.num_train_timesteps, (), generator=generator)
        )
    device = backbone.device
    return torch.stack(noise).to(device, backbone.pipeline.unet.dtype), torch.stack(timesteps).to(device)
