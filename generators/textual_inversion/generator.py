"""textual_inversion: learned words for the style that users like (Gal et al., ICLR 2023).

A few new vectors per cluster of users, or per user, in the embedding table of the backbone's text encoder: they are all that
trains, against the denoising loss on images which those users liked, under the very prompts that images are drawn from later,
the item's text and the new words. What is saved are diffusers' own learned embeddings, a file for each group, for
``load_textual_inversion`` of any pipeline with the same text encoder.

The shared text encoder and tokenizer stay as they are: the new rows are appended to a copy of the table for the length of a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call

from generators.base import Progress, silent
from generators.common.clusters import ClusterTrainer, Groups, Row, find_groups
from generators.common.denoising import denoising_losses, draw_noise
from generators.common.sampling import Drawing, DrawsConditions
from generators.common.settings import PLACE
from generators.textual_inversion.settings import STYLE, Settings
from recgen.core.errors import UserError
from recgen.data.types import Request, RunData
from recgen.diffusion.backbone import Backbone
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel


class Words(torch.nn.Module):
    """Prompts with learned vectors in them, through a text encoder that does not change.

    Parameters
    ----------
    backbone
        Whose tokenizer and text encoder.
    template
        The prompt, with {text} and {style}.
    """

    def __init__(self, backbone: Backbone, template: str) -> None:
        super().__init__()
        pipeline = backbone.pipeline
        self.tokenizer, self.device = pipeline.tokenizer, backbone.device
        self._encoder = [pipeline.text_encoder]  # in a list, so that it is no part of this module
        table = pipeline.text_encoder.get_input_embeddings()
        self.table = table.weight
        self.name = (
            next(name for name, module in pipeline.text_encoder.named_modules() if module is table)
            + ".weight"
        )
        self.pieces = re.split(f"({re.escape(PLACE)}|{re.escape(STYLE)})", template)

    def initial(self, words: str) -> Tensor:
        """Return the mean vector ``[d]`` of some words."""
        return self.table[self._ids(words)].mean(0).detach().float()

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def ids(self, text: str, count: int) -> list[int]:
        """Return a prompt's token ids, padded; those of the `count` learned vectors follow the last of the table.

        What is too long is cut from the item's text and never from the words after it.
        """
        tokenizer, length = self.tokenizer, self.tokenizer.model_max_length
        learned = list(range(len(self.table), len(self.table) + count))
        fixed = {
            piece: learned if piece == STYLE else self._ids(piece) for piece in self.pieces if piece != PLACE
        }
        room = length - 2 - sum(len(fixed[piece]) for piece in self.pieces if piece != PLACE)
        own = self._ids(text)[: max(0, room) // self.pieces.count(PLACE)]
        body = [token for piece in self.pieces for token in (own if piece == PLACE else fixed[piece])]
        ids = [tokenizer.bos_token_id, *body[: length - 2], tokenizer.eos_token_id]
        return ids + [tokenizer.pad_token_id] * (length - len(ids))

    def forward(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        """Return the condition ``[B, T, width]`` of items' texts beside learned `vectors` ``[n, d]``, which gradients reach."""
        ids = torch.tensor([self.ids(text, len(vectors)) for text in texts], device=self.device)
        table = torch.cat([self.table.detach(), vectors.to(self.table)])
        return functional_call(self._encoder[0], {self.name: table}, (ids,))[0]


class TextualInversion(DrawsConditions):
    """Draws the item's text in the learned words of the user's group; without any for a user who is not known."""

    name = "textual_inversion"
    Config = Settings
    config: Settings

    groups: Groups
    vectors: Tensor
    """Learned vectors, float32 ``[groups, n, d]``."""

    @cached_property
    def words(self) -> Words:
        """The prompts with learned words in them."""
        return Words(self.backbone, self.config.template)

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn each group's vectors on the images its users liked; neither `reward` nor `judge` is used."""
        self.groups, liked = find_groups(data, self.config.clusters)
        trainer = ClusterTrainer(self, data, liked)
        start = self.words.initial(self.config.initial).repeat(self.groups.count, self.config.vectors, 1)
        learned = [self._learn(group, first, trainer, progress) for group, first in enumerate(start)]
        self.vectors = torch.stack(learned) if learned else start
        self.curves = trainer.curves

    def _learn(self, group: int, start: Tensor, trainer: ClusterTrainer, progress: Progress) -> Tensor:
        vectors = start.clone().requires_grad_(True)
        data, words, backbone = trainer.data, self.words, self.backbone

        def losses(step: int, rows: Sequence[Row]) -> Tensor:
            keys = [(str(group), f"{data.item_ids[row.item]}/{row.place}") for row in rows]
            clean, stage = trainer.clean(rows), f"textual inversion {step}"
            noise, timesteps = draw_noise(backbone, clean.shape[1:], data.run_seed, stage, keys)
            condition = words([data.texts[row.item] for row in rows], vectors)
            return denoising_losses(backbone, condition, clean, noise, timesteps)

        trainer.train(group, {"vectors": vectors}, self.config.learning_rate, losses, progress)
        return vectors.detach()

    @torch.no_grad()
    def drawings(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawing]:
        """Yield the item's text in the learned words of each request's group."""
        known: dict[tuple[str, int | None], Any] = {}
        for request in requests:
            text, group = data.texts[data.item_rows[request.item_id]], self.groups.of(request, data)
            if (text, group) not in known:
                condition = (
                    self.backbone.embed_prompts([text])
                    if group is None
                    else self.words([text], self.vectors[group])
                )
                known[text, group] = condition[0].float().cpu().numpy()
            prompt = (
                text
                if group is None
                else self.config.template.replace(PLACE, text).replace(STYLE, token(group))
            )
            yield (
                Condition(
                    request.seed, prompt, self.config.negative_prompt, prompt_embedding=known[text, group]
                ),
                {"prompt": prompt, "group": group},
            )

    def save(self, folder: Path) -> None:
        """Write the groups, and for each the learned embeddings in diffusers' format, under the name that `token` gives them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.groups.save(folder)
        for group, vectors in enumerate(self.vectors):
            save_file({token(group): vectors.cpu().contiguous()}, folder / _file(group))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no textual inversion, or one for a text encoder of another width.
        """
        self.groups = Groups.load(folder, self.name)
        width = self.words.table.shape[1]
        found = [load_file(folder / _file(group))[token(group)] for group in range(self.groups.count)]
        if any(vectors.shape != (self.config.vectors, width) for vectors in found):
            raise UserError(
                str(folder), found="vectors of other sizes", expected="these settings'", todo="Fit it again."
            )
        self.vectors = torch.stack(found) if found else torch.empty(0, self.config.vectors, width)


def token(group: int) -> str:
    """Return the placeholder of a group's learned vectors in a prompt.

    Examples
    --------
    >>> token(3)
    '<style-3>'
    """
    return f"<style-{group}>"


def _file(group: int) -> str:
    return f"style-{group:04d}.safetensors"
