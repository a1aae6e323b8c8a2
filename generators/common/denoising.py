"""What generators that train against the frozen UNet share: its loss, images as latents, and noise that no batch changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from generators.common.gradients import Gradients
from generators.common.settings import MEASURED, TrainingConfig
from generators.common.training import Curves, batches, train_with_early_stopping
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
    """Return what the network is asked for, by the prediction type: noise, velocity or what is clean, latents or embeddings.

    `clean`, `noise` and what is returned are float ``[B, ...]``, all as large; `timesteps` are int64 ``[B]``.
    """
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


def train_on_losses(
    backbone: Backbone,
    trained: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    examples: tuple[Sequence[T], Sequence[T]],
    losses: Callable[[Sequence[T], str], Tensor],
    settings: TrainingConfig,
    method: str,
    run_seed: int,
    after: Callable[[int], None],
    *,
    learned_by: Callable[[Sequence[T], str], Tensor] | None = None,
    what: str = "denoising loss",
) -> Curves:
    """Train until the held-out examples' loss stops falling, and return the curves of both losses.

    Parameters
    ----------
    backbone
        What the losses go through.
    trained, optimiser, settings, after
        As `train_with_early_stopping` takes them.
    examples
        Those that are learned from, and those held out; with none held out the last step is the best.
    losses
        Of some examples and a stage, from which all that is drawn follows: ``[B]``.
    method
        Begins the names of the stages: those of batches, of each step's noise and of the held-out examples'.
    run_seed
        The run's.
    learned_by
        What is learned from, where that is not `losses`.
    what
        The loss's name in the curves.
    """
    train, held_out = examples
    learn, curves = learned_by or losses, Curves()
    drawn = batches(train, settings.requests_per_step, f"{method} batches", run_seed)
    gradients = Gradients(backbone, trained.values())

    def backward(step: int) -> None:
        loss = gradients.add(next(drawn), lambda some: learn(some, f"{method} noise {step}"))
        curves.setdefault(f"{what}, training", []).append((step, loss))

    def evaluate(step: int) -> float:
        if not held_out:
            return float(step)
        value = held_out_loss(
            lambda stage, some: losses(some, stage), held_out, f"{method} held out", backbone.batcher
        )
        curves.setdefault(f"{what}, held-out users", []).append((step, value))
        return -value

    train_with_early_stopping(trained, optimiser, backward, evaluate, settings, after)
    return curves


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
