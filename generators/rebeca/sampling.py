"""Sampling image embeddings from the prior: classifier-free guidance and the reverse process (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from generators.rebeca.prior import LIKE, NO_RATING, Prior
from generators.rebeca.settings import Settings
from recgen.core.seeding import torch_generator

_BATCH = 1024


def guided_noise(conditional: Tensor, unconditional: Tensor, omega: float) -> Tensor:
    """Return (1 + omega) eps(I, t, U, R) - omega eps(I, t), classifier-free guidance (section 3.2); all are ``[B, D]``."""
    return (1 + omega) * conditional - omega * unconditional


@torch.no_grad()
def sample(
    prior: Prior, users: Sequence[int | None], seeds: Sequence[int], bound: float, settings: Settings
) -> Tensor:
    """Draw one standardised embedding per row from p(I_e | U, R = 1), float32 ``[n, D]`` on the CPU.

    Parameters
    ----------
    prior
        The trained prior.
    users
        User index of each row; None draws from the unconditional p(I_e) instead.
    seeds
        Seed of each row's noise; a row depends on nothing else, however it is batched.
    bound
        Predicted clean embeddings are clipped to [-bound, bound].
    settings
        `guidance`, `prior_steps`, `eta` and the noise schedule.
    """
    prior.eval()
    pieces = [
        _sample_batch(prior, users[i : i + _BATCH], seeds[i : i + _BATCH], bound, settings)
        for i in range(0, len(seeds), _BATCH)
    ]
    return torch.cat(pieces) if pieces else torch.empty(0, prior.head.out_features)


def _sample_batch(
    prior: Prior, users: Sequence[int | None], seeds: Sequence[int], bound: float, settings: Settings
) -> Tensor:
    """The reverse process: from Gaussian noise at step T down to the embedding at step 0."""
    device = prior.head.weight.device
    dim = prior.head.out_features
    distinct, rows = _conditions(prior, users)
    distinct, rows = distinct.to(device), rows.to(device)
    condition = prior.read_condition(distinct[:, 0], distinct[:, 1])
    generators = [torch_generator(seed, "rebeca prior") for seed in seeds]
    x = torch.stack([torch.randn(dim, generator=generator) for generator in generators]).to(device)
    scheduler = _reverse_process(settings, bound)
    for t in scheduler.timesteps:
        at_t = prior.read_time(condition, t.to(device).expand(len(distinct)))
        noise = prior.predict(at_t.take(rows), x)
        if settings.guidance:
            unconditional = prior.predict(at_t.take(torch.zeros_like(rows)), x)
            noise = guided_noise(noise, unconditional, settings.guidance)
        x = scheduler.step(noise, t, x, eta=settings.eta, generator=generators).prev_sample
    return x.cpu()


def _conditions(prior: Prior, users: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """Return the distinct (user, rating) pairs, int64 ``[C, 2]``, the unconditional one first, and each row's pair."""
    pairs = [(prior.no_user, NO_RATING)]
    index: dict[int | None, int] = {None: 0}
    for user in users:
        if user not in index:
            index[user] = len(pairs)
            pairs.append((user, LIKE))  # type: ignore[arg-type]
    return torch.tensor(pairs), torch.tensor([index[user] for user in users])


def _reverse_process(settings: Settings, bound: float) -> DDIMScheduler:
    scheduler = DDIMScheduler(
        num_train_timesteps=settings.train_timesteps,
        beta_schedule=settings.noise_schedule,
        prediction_type=settings.prediction,
        clip_sample=True,
        clip_sample_range=bound,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(settings.prior_steps)
    return scheduler
