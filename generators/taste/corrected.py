"""Corrections of the image embedding at the price of one image: the reward's gradient, learned beforehand by a small network.

`generators.common.refinement` climbs the reward anew for every request, at the price of several images. Here a network g learns
to climb for everybody. With b_u the posterior (4) of user u's likes, s the style of (7), x the embedding of the item's text and
e = c(x) + s what taste shows, of width D,

    e' = e + |e| D^(-1/2) g(b_u, s, x, e)                                                         (9)

is shown instead. g is a perceptron whose last layer starts at zero, so that e' = e before it has learned anything. Each step of
Adam draws the images x(e') of a few pairs of a user and an item, each pair under a noise of its own, and maximises over g what
`refine` maximises over the embedding,

    score(E(x(e'))) - content max(0, c_0 - c(e')),

c being the cosine of E(x(.)) and the item's text and c_0 that of the image drawn from e. This is amortised optimisation (Amos,
Tutorial on amortized optimization, 2023), with gradients through the last K denoising steps (DRaFT-K, Clark et al., ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from generators.base import Progress
from generators.common.refinement import Score, likeness, objective
from generators.common.settings import Refinement
from generators.taste.settings import PAIRS_PER_STEP
from recgen.core.seeding import seed_for
from recgen.diffusion.backbone import Backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.gradient import LastSteps
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import Encoder

_WIDTH, _RATE = 128, 3e-3


class Corrector(nn.Module):
    """(9): from what is known of requests to their corrected image embeddings.

    Parameters
    ----------
    known
        The width P of what is known.
    dim
        The width D of image embeddings.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, known: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(known))
        self.register_buffer("deviation", torch.ones(known))
        last = nn.Linear(_WIDTH, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(known, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU(), last
        )

    @classmethod
    def of(cls, known: Tensor, dim: int, run_seed: int) -> Corrector:
        """Return one that corrects nothing yet, for what is known of the pairs to learn from, ``[n, P]``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(run_seed, "taste corrector"))
            found = cls(known.shape[1], dim)
        found.mean.copy_(known.mean(0))
        found.deviation.copy_(known.std(0, unbiased=False).clamp(min=1e-6))
        return found

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> Corrector:
        """Return the one whose state these arrays are."""
        found = cls(len(state["mean"]), len(state["layers.4.bias"]))
        found.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that `restored` takes."""
        return {name: value.numpy() for name, value in self.state_dict().items()}

    def forward(self, known: Tensor, start: Tensor) -> Tensor:
        """Return e' ``[B, D]`` of what is known ``[B, P]`` and e ``[B, D]``."""
        scale = start.square().mean(1, keepdim=True).sqrt()
        return start + scale * self.layers((known - self.mean) / self.deviation)

    @torch.no_grad()
    def corrected(self, known: Tensor, start: np.ndarray) -> np.ndarray:
        """Return e', float32 ``[B, D]``, of e ``[B, D]``, row by row the same in any batch."""
        return self(known, torch.from_numpy(start)).numpy()


def learn(
    corrector: Corrector,
    backbone: Backbone,
    encoder: Encoder,
    conditions: Sequence[Condition],
    known: Tensor,
    texts: Tensor,
    score: Callable[[slice], Score],
    sampling: Sampling,
    settings: Refinement,
    progress: Progress,
) -> None:
    """Teach a corrector, each pair of a user and an item once.

    Parameters
    ----------
    corrector
        What learns.
    backbone, encoder
        What draws and what the reward sees with.
    conditions
        What taste would draw the n pairs from, all with image embeddings e.
    known
        What is known of the pairs, ``[n, P]``.
    texts
        Text embeddings ``[n, D]`` of the items; a row of NaN is an item without a text, whose likeness to it is not kept.
    score
        The reward of some of the pairs.
    sampling
        How the images are sampled.
    settings
        K and the hinge's weight.
    progress
        Called after every step.
    """
    last, texts = min(settings.last, sampling.steps), texts.nan_to_num()
    count, together = len(conditions), min(PAIRS_PER_STEP, sampling.batch_size)
    steps = range(0, count, PAIRS_PER_STEP)
    optimiser = torch.optim.Adam(corrector.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / len(steps), len(steps))

    def value(part: slice) -> Tensor:
        rows = conditions[part]
        plain = torch.from_numpy(np.stack([np.asarray(each.image_embedding) for each in rows]))
        shown = corrector(known[part], plain)
        moved = [
            replace(each, image_embedding=row) for each, row in zip(rows, shown.detach().numpy(), strict=True)
        ]
        with torch.no_grad():
            before = LastSteps(backbone, rows, sampling, 1).pixels(plain)
            floor = likeness(encoder.pixels(before), texts[part])
        seen = encoder.pixels(LastSteps(backbone, moved, sampling, last).pixels(shown))
        return objective(seen, texts[part], floor, score(part), settings.content)

    for done, first in enumerate(steps, start=1):
        end = min(first + PAIRS_PER_STEP, count)
        optimiser.zero_grad()
        for start in range(first, end, together):
            (-value(slice(start, min(start + together, end))).sum() / (end - first)).backward()
        optimiser.step()
        schedule.step()
        progress("taste: corrections", done, len(steps))
