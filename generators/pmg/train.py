"""Training PMG: the preference read off a history must help the frozen UNet to denoise the image the user liked next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.base import Progress
from generators.common.denoising import denoising_losses, image_latents, train_on_losses
from generators.common.training import Curves, examples_of, references, trainable
from generators.pmg.model import PreferenceEncoder
from generators.pmg.settings import Settings
from recgen.core.seeding import torch_generator
from recgen.data.requests import HISTORY
from recgen.data.types import RunData
from recgen.features.item_keywords import top_keywords


@dataclass(frozen=True)
class Example:
    """A reference that a user liked, its text, and the user's keywords before it."""

    user: str
    item: str
    text: str
    keywords: tuple[str, ...]


def keywords_of(data: RunData, history: Sequence[int], settings: Settings) -> tuple[str, ...]:
    """Return the keywords of a history, catalogue rows oldest first."""
    words = [data.keywords[row] for row in list(history)[-HISTORY:]]
    return tuple(top_keywords(words, settings.keywords, settings.min_keyword_count))


def training_examples(data: RunData, settings: Settings) -> tuple[list[Example], list[Example]]:
    """Return training and held-out examples, of different users: liked images, each with the likes before it."""
    return examples_of(data, settings, "pmg users", lambda user, items: _of_user(data, user, items, settings))


def _of_user(data: RunData, user: int, items: list[int], settings: Settings) -> Iterator[Example]:
    for at in references(len(items), settings.references_per_user, settings):
        if data.images[items[at]] is not None:
            words = keywords_of(data, items[:at], settings)
            yield Example(data.user_ids[user], data.item_ids[items[at]], data.texts[items[at]], words)


class Trainer:
    """Trains the preference encoder; everything random follows from (run seed, stage, user, item).

    Parameters
    ----------
    preference_encoder
        The model; it ends with the weights of its best evaluation.
    data
        Where the references' images are.
    settings
        PMG's.
    """

    def __init__(self, preference_encoder: PreferenceEncoder, data: RunData, settings: Settings) -> None:
        self.preference_encoder, self.data, self.settings = preference_encoder, data, settings
        self._latents: dict[str, Tensor] = {}

    def train(self, train: list[Example], held_out: list[Example], progress: Progress) -> Curves:
        """Train until the held-out users' loss stops falling, and return the curves."""
        self._encode([*train, *held_out])
        settings, trained = self.settings, trainable(self.preference_encoder)
        optimiser = torch.optim.AdamW(trained.values(), lr=settings.learning_rate)
        return train_on_losses(
            self.preference_encoder.backbone, trained, optimiser, (train, held_out), self._losses, settings,
            "pmg", self.data.run_seed, lambda step: progress("PMG", step, settings.max_steps),
        )  # fmt: skip

    def _losses(self, batch: Sequence[Example], stage: str) -> Tensor:
        backbone = self.preference_encoder.backbone
        clean = torch.cat([self._latents[example.item] for example in batch]).to(backbone.device)
        drawn = [self._draw(stage, example, clean.shape[1:]) for example in batch]
        noise = torch.stack([noise for noise, _, _ in drawn]).to(clean)
        timesteps = torch.stack([time for _, time, _ in drawn]).to(clean.device)
        words, texts = [example.keywords for example in batch], [example.text for example in batch]
        condition = self.preference_encoder(words, texts, [weight for _, _, weight in drawn])
        return denoising_losses(backbone, condition, clean, noise, timesteps)

    def _draw(self, stage: str, example: Example, shape: Sequence[int]) -> tuple[Tensor, Tensor, float]:
        """Return an example's noise, its time, int64 ``[]``, and its weight: any of those that generation tries."""
        generator = torch_generator(self.data.run_seed, stage, example.user, example.item)
        steps, weights = (
            self.preference_encoder.backbone.noise_scheduler.config.num_train_timesteps,
            self.settings.weights,
        )
        noise, time = torch.randn(*shape, generator=generator), torch.randint(steps, (), generator=generator)
        return noise, time, weights[torch.randint(len(weights), (), generator=generator)]

    def _encode(self, every: Sequence[Example]) -> None:
        rows = {self.data.item_rows[example.item]: example.item for example in every}
        found = image_latents(self.preference_encoder.backbone, self.data, rows)
        self._latents = {rows[row]: latents for row, latents in found.items()}
