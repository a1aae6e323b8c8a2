"""DiffusionNFT (Zheng et al., 2025) on pairs: the adapter moves from what the reward rejects to what it prefers.

Let v be what the UNet is asked for at a noised image (its velocity in the paper; any target that is linear in the clean image
will do), v_old its prediction with the low-rank part off and v_theta with it on. Then

    L = r |v+ - v|^2 + (1 - r) |v- - v|^2,    v+ = (1 - beta) v_old + beta v_theta,    v- = (1 + beta) v_old - beta v_theta   (1)

with r = 1 for the preferred image of a pair and r = 0 for the rejected one (the paper's eq. 5). With d = v_theta - v_old and
e = v - v_old this is |beta d - e|^2 for the one and |beta d + e|^2 for the other: a regression of beta d on e, and on -e, whose
minimum is where d is half the mean difference between the two over beta. Both images of a pair are noised alike, so that
what they share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from generators.base import Progress
from generators.common.denoising import denoising_target, draw_noise, train_on_losses
from generators.common.training import Curves
from generators.preferred.pairs import Pair
from generators.preferred.settings import Settings
from recgen.diffusion.backbone import Backbone


def nft_losses(predicted: Tensor, old: Tensor, target: Tensor, preferred: Tensor, beta: float) -> Tensor:
    """Return (1) of each row, the squares' mean over a row, over beta as in the authors' code: ``[B]``.

    Parameters
    ----------
    predicted, old, target
        v_theta, v_old and v, ``[B, channels, h, w]``.
    preferred
        r, ``[B]``, 0 to 1.
    beta
        How little v_theta moves for what it learns.

    Examples
    --------
    >>> old, target, r = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1), torch.tensor([1.0, 0.0])
    >>> nft_losses(torch.full((2, 1, 1, 1), 0.5), old, target, r, beta=1.0).tolist()
    [0.25, 2.25]
    """
    positive = (1 - beta) * old + beta * predicted
    negative = (1 + beta) * old - beta * predicted
    squares = [(each - target).float().square().flatten(1).mean(1) for each in (positive, negative)]
    return (preferred * squares[0] + (1 - preferred) * squares[1]) / beta


class Trainer:
    """Trains the low-rank part; everything random follows from (run seed, stage, user, item).

    Parameters
    ----------
    backbone
        Has the low-rank part on; with its LoRAs off it predicts v_old.
    settings
        How long and how fast.
    scale
        The IP-Adapter's, as images are drawn.
    run_seed
        The run's.
    """

    def __init__(self, backbone: Backbone, settings: Settings, scale: float, run_seed: int) -> None:
        self.backbone, self.settings, self.scale, self.run_seed = backbone, settings, scale, run_seed

    def train(
        self, trained: Mapping[str, Tensor], pairs: list[Pair], held_out: list[Pair], progress: Progress
    ) -> Curves:
        """Train until the held-out users' loss stops falling, and return the curves."""
        settings = self.settings
        optimiser = torch.optim.AdamW(
            trained.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        return train_on_losses(
            self.backbone, trained, optimiser, (pairs, held_out), self.losses, settings,
            "preferred", self.run_seed, lambda step: progress("preferred", step, settings.max_steps), what="loss",
        )  # fmt: skip

    def losses(self, pairs: Sequence[Pair], stage: str) -> Tensor:
        """Return the mean of (1) over both images of each pair, ``[B]``."""
        backbone, count = self.backbone, len(pairs)
        images = [pair.preferred for pair in pairs] + [pair.rejected for pair in pairs]
        clean = torch.cat(images).to(backbone.device)
        keys = [(pair.user, f"{pair.item}/{pair.place}") for pair in pairs]
        alike = draw_noise(backbone, clean.shape[1:], self.run_seed, stage, keys)
        noise, timesteps = (torch.cat([each, each]) for each in alike)
        noisy = backbone.noise_scheduler.add_noise(clean, noise, timesteps)
        with backbone.loras(), torch.no_grad():
            old = self._predict(pairs, noisy, timesteps)
        predicted = self._predict(pairs, noisy, timesteps)
        target = denoising_target(backbone.noise_scheduler, clean, noise, timesteps)
        preferred = torch.arange(2 * count, device=clean.device) < count
        found = nft_losses(predicted, old, target, preferred.float(), self.settings.beta)
        return found.unflatten(0, (2, count)).mean(0)

    def _predict(self, pairs: Sequence[Pair], noisy: Tensor, timesteps: Tensor) -> Tensor:
        prompts = [pair.condition.prompt for pair in pairs] * 2
        embeddings = [pair.condition.image_embedding for pair in pairs] * 2
        images = torch.from_numpy(np.stack([each for each in embeddings if each is not None])).to(noisy)
        text, pooled = self.backbone.embed_prompts(prompts), self.backbone.pool_prompts(prompts)
        return self.backbone.predict(noisy, timesteps, text, pooled, images, image_scale=self.scale)
