"""Training (section 4.3): with text, foreground and interest of a user, the UNet must denoise the image the user liked next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from generators.base import Progress
from generators.common.denoising import denoising_losses, draw_noise, image_latents, train_on_losses
from generators.common.training import Curves, examples_of, references
from generators.iamg.conditions import ContextBuilder, ItemContext
from generators.iamg.decoupled import Adapter, Strengths
from generators.iamg.ira import InterestRetrieveAttention
from generators.iamg.settings import Settings
from recgen.core.seeding import torch_generator
from recgen.data.types import RunData

_AT_ONCE = 64


@dataclass(frozen=True)
class Example:
    """An image that a user liked, and what the user had liked before it: catalogue rows, oldest first."""

    user: str
    item: int
    history: tuple[int, ...]


def training_examples(data: RunData, settings: Settings) -> tuple[list[Example], list[Example]]:
    """Return training and held-out examples, of different users: liked images, each with the likes before it."""
    return examples_of(
        data, settings, "iamg users", lambda user, items: _of_user(data, user, items, settings)
    )


def _of_user(data: RunData, user: int, items: list[int], settings: Settings) -> Iterator[Example]:
    for at in references(len(items), settings.references_per_user, settings):
        if data.images[items[at]] is not None:
            yield Example(data.user_ids[user], items[at], tuple(items[:at]))


class Trainer:
    """Trains the adapter's and IRA's projections; everything random follows from (run seed, stage, user, item).

    Parameters
    ----------
    adapter, ira
        What trains; both end with the weights of the best evaluation. Without IRA, None.
    builder
        Says what each example is conditioned on.
    settings
        I-AM-G's.
    """

    def __init__(
        self,
        adapter: Adapter,
        ira: InterestRetrieveAttention | None,
        builder: ContextBuilder,
        settings: Settings,
    ) -> None:
        self.adapter, self.ira, self.builder, self.settings = adapter, ira, builder, settings
        self.backbone, self.data = builder.backbone, builder.data

    def train(self, train: list[Example], held_out: list[Example], progress: Progress) -> Curves:
        """Train until the held-out users' loss (eq. 14) stops falling, and return the curves."""
        every = [*train, *held_out]
        self.prepare(every)
        settings, trained = self.settings, self.trained()
        optimiser = torch.optim.AdamW(
            trained.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        # worn in the backward pass too, which may compute it again
        with self.adapter.worn_by(self.backbone, self._strengths):
            return train_on_losses(
                self.backbone, trained, optimiser, (train, held_out), self.losses, settings,
                "iamg", self.data.run_seed, lambda step: progress("I-AM-G", step, settings.max_steps),
                learned_by=partial(self.losses, drop=settings.condition_drop),
            )  # fmt: skip

    @property
    def _strengths(self) -> Strengths:
        return Strengths(1.0, self.settings.train_lambda1, self.settings.train_lambda2)

    def trained(self) -> dict[str, Tensor]:
        """Return the parameters that train, by name."""
        return parameters(self.adapter, self.ira)

    def prepare(self, every: Sequence[Example]) -> None:
        """Build the contexts of all examples, and encode their images as latents, once."""
        self._contexts: dict[Example, ItemContext] = {}
        for start in range(0, len(every), _AT_ONCE):
            block = every[start : start + _AT_ONCE]
            built = self.builder.build([(example.item, example.history) for example in block])
            self._contexts |= dict(zip(block, built, strict=True))
        self._latents = image_latents(self.backbone, self.data, (example.item for example in every))

    def losses(self, batch: Sequence[Example], stage: str, drop: float = 0.0) -> Tensor:
        """Return eq. 14 of each example, ``[B]``, with all conditions of a share `drop` of them left out (eq. 15)."""
        data, contexts = self.data, [self._contexts[example] for example in batch]
        keys = [(example.user, data.item_ids[example.item]) for example in batch]
        clean = torch.cat([self._latents[example.item] for example in batch]).to(self.backbone.device)
        noise, timesteps = draw_noise(self.backbone, clean.shape[1:], data.run_seed, stage, keys)
        kept = torch.tensor(
            [_uniform(data.run_seed, f"{stage} drop", key) >= drop for key in keys], device=clean.device
        )
        prompts = [
            context.rewritten.text if keep else ""
            for context, keep in zip(contexts, kept.tolist(), strict=True)
        ]
        images = torch.from_numpy(self.builder.foregrounds(contexts)).to(clean) * kept[:, None]
        more = {"images": images}
        if self.ira is not None:
            more["interest"] = self.builder.interest(contexts, self.ira) * kept[:, None, None]
        with self.adapter.worn_by(self.backbone, self._strengths):
            condition, pooled = self.backbone.embed_prompts(prompts), self.backbone.pool_prompts(prompts)
            return denoising_losses(self.backbone, condition, clean, noise, timesteps, pooled, **more)


def parameters(adapter: Adapter, ira: InterestRetrieveAttention | None) -> dict[str, Tensor]:
    """Return all that I-AM-G trains, by name: the image attention's keys and values, and IRA's three projections."""
    parts = {"adapter": adapter, **({} if ira is None else {"ira": ira})}
    named = (
        ((f"{part}.{name}", value) for name, value in module.named_parameters())
        for part, module in parts.items()
    )
    return dict(chain.from_iterable(named))


def _uniform(run_seed: int, stage: str, key: tuple[str, str]) -> float:
    return float(torch.rand((), generator=torch_generator(run_seed, stage, *key)))
