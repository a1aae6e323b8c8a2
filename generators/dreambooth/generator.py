"""dreambooth: the UNet itself, fine-tuned to what groups of users like, as one LoRA per cluster of users.

DreamBooth (Ruiz et al., CVPR 2023) in the low-rank form that diffusers trains (LoRA: Hu et al., ICLR 2022): adapters of its
attention, by peft, against the denoising loss on images which the cluster's users liked, each under its item's text. Prior
preservation, the loss on what the backbone itself draws, is there (`prior_weight`) and off: a LoRA that is off leaves the UNet
as it was anyway.

What is saved are diffusers LoRAs, a folder for each cluster, for ``load_lora_weights`` of any pipeline with the same UNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from generators.base import Progress, silent
from generators.common.clusters import ClusterTrainer, Groups, Row, find_groups
from generators.common.denoising import denoising_losses, draw_noise
from generators.common.lora import new_lora, take_off
from generators.common.prompted import fill
from generators.common.sampling import Drawn, DrawsImages
from generators.dreambooth.settings import Settings
from recgen.core.errors import UserError, brief
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import Request, RunData
from recgen.diffusion.backbone import Backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.weights import LORA_FILE
from recgen.recommender.reward import RewardModel

_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
_BLOCK = 64  # requests whose images are drawn before the first is handed on: a LoRA is put on once for those that share it

Lora = Mapping[str, Tensor]
"""A LoRA in diffusers' format: tensors by name, all of the UNet."""


class DreamBooth(DrawsImages):
    """Draws the item's text with the LoRA of the user's cluster; with none for a user of whom no liked image is known."""

    name = "dreambooth"
    Config = Settings
    config: Settings

    groups: Groups
    loras: list[Lora]

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Train each cluster's LoRA on the images its users liked; neither `reward` nor `judge` is used."""
        self.groups, liked = find_groups(data, self.config.clusters)
        trainer, prior = ClusterTrainer(self, data, liked), self._prior(data)
        self.loras = [self._learn(group, trainer, prior, progress) for group in range(self.groups.count)]
        self.curves = trainer.curves

    def _prior(self, data: RunData) -> list[tuple[str, Tensor]]:
        """Return prompts, and the latents ``[1, channels, h, w]`` of what the backbone draws of them."""
        if not self.config.prior_weight:
            return []
        rows = numpy_rng(data.run_seed, "dreambooth prior").permutation(len(data.item_ids))[
            : self.config.prior_images
        ]
        prompts = [data.texts[row] for row in rows]
        seeds = [seed_for(data.run_seed, "dreambooth prior", item=data.item_ids[row]) for row in rows]
        drawn = self.backbone.generate(
            [Condition(*each) for each in zip(seeds, prompts, strict=True)], self.config.decode
        )
        return [
            (prompt, self.backbone.encode_images([image]))
            for prompt, image in zip(prompts, drawn, strict=True)
        ]

    def _learn(
        self, group: int, trainer: ClusterTrainer, prior: Sequence[tuple[str, Tensor]], progress: Progress
    ) -> Lora:
        data, settings, name = trainer.data, self.config, _name(group)

        def losses(step: int, rows: Sequence[Row]) -> Tensor:
            prompts = [fill(settings.template, data.texts[row.item]) for row in rows]
            keys = [(str(group), f"{data.item_ids[row.item]}/{row.place}") for row in rows]
            found = self._losses(prompts, trainer.clean(rows), data.run_seed, f"dreambooth {step}", keys)
            if prior:
                first = (step - 1) * min(settings.images_per_step, len(trainer.liked[group]))
                chosen = [(first + row.place) % len(prior) for row in rows]
                own = torch.cat([prior[place][1] for place in chosen])
                keys = [(str(group), f"{place}/{row.place}") for place, row in zip(chosen, rows, strict=True)]
                prompts = [prior[place][0] for place in chosen]
                stage = f"dreambooth prior {step}"
                found = found + settings.prior_weight * self._losses(prompts, own, data.run_seed, stage, keys)
            return found

        stage = f"dreambooth {name}"
        with new_lora(self.backbone, name, settings.rank, _LAYERS, data.run_seed, stage) as trained:
            trainer.train(group, trained, settings.learning_rate, losses, progress)
            return _state(self.backbone, name)

    def _losses(
        self, prompts: list[str], clean: Tensor, run_seed: int, stage: str, keys: Sequence[tuple[str, str]]
    ) -> Tensor:
        noise, timesteps = draw_noise(self.backbone, clean.shape[1:], run_seed, stage, keys)
        condition, pooled = self.backbone.embed_prompts(prompts), self.backbone.pool_prompts(prompts)
        return denoising_losses(self.backbone, condition, clean, noise, timesteps, pooled)

    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawn]:
        """Yield each request's image, block by block."""
        for start in range(0, len(requests), _BLOCK):
            yield from self._block(requests[start : start + _BLOCK], data)

    def _block(self, requests: Sequence[Request], data: RunData) -> list[Drawn]:
        """Draw some requests, those of a cluster together."""
        groups = [self.groups.of(request, data) for request in requests]
        texts = [data.texts[data.item_rows[request.item_id]] for request in requests]
        prompts = [
            text if group is None else fill(self.config.template, text)
            for text, group in zip(texts, groups, strict=True)
        ]
        used = {group for group in groups if group is not None}
        images: dict[int, Image.Image] = {}
        with _put_on(self.backbone, {_name(group): self.loras[group] for group in sorted(used)}):
            for group in dict.fromkeys(groups):
                rows = [row for row, of in enumerate(groups) if of == group]
                conditions = [
                    Condition(requests[row].seed, prompts[row], self.config.negative_prompt) for row in rows
                ]
                with self.backbone.loras(*([] if group is None else [_name(group)])):
                    images |= dict(
                        zip(rows, self.backbone.generate(conditions, self.config.decode), strict=True)
                    )
        return [(images[row], {"prompt": prompts[row], "group": groups[row]}) for row in range(len(requests))]

    def save(self, folder: Path) -> None:
        """Write the clusters, and for each a folder with its diffusers LoRA."""
        folder.mkdir(parents=True, exist_ok=True)
        self.groups.save(folder)
        for group, lora in enumerate(self.loras):
            layers = {name.removeprefix("unet."): value for name, value in lora.items()}
            self.backbone.pipeline.save_lora_weights(folder / _name(group), unet_lora_layers=layers)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no DreamBooth.
        """
        self.groups = Groups.load(folder, self.name)
        self.loras = [load_file(folder / _name(group) / LORA_FILE) for group in range(self.groups.count)]


def _name(group: int) -> str:
    return f"cluster-{group:04d}"


@contextmanager
def _put_on(backbone: Backbone, loras: Mapping[str, Lora]) -> Iterator[None]:
    """Put LoRAs on the UNet for the block, by name and switched off."""
    try:
        for name, lora in loras.items():
            _load(backbone, name, lora)
        yield
    finally:
        take_off(backbone, list(loras))


def _load(backbone: Backbone, name: str, lora: Lora) -> None:
    try:
        backbone.pipeline.load_lora_weights(dict(lora), adapter_name=name)
    except (RuntimeError, ValueError) as error:
        found = f"a UNet that the LoRA {name} does not fit ({brief(error)})"
        raise UserError(
            "recgen.backbone", found=found, expected="the one it was trained on", todo="Fit it again."
        ) from error


def _state(backbone: Backbone, name: str) -> Lora:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    state = convert_state_dict_to_diffusers(
        get_peft_model_state_dict(backbone.pipeline.unet, adapter_name=name)
    )
    return {
        f"unet.{key}": value.detach().float().cpu().clone().contiguous()
        for key, value in sorted(state.items())
    }
