"""One wrapper around a diffusers Stable-Diffusion pipeline: conditions in, pictures out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from recgen.assets import asset_folder
from recgen.compat import prepare_torchvision
from recgen.errors import UserError, brief

prepare_torchvision()
from diffusers import (  # noqa: E402
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
)
from diffusers.utils import logging as diffusers_logging  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

_ADAPTER_FILE = "ip-adapter.safetensors"
_PROMPTS_KEPT = 1024  # 240 MB of prompt embeddings with Stable Diffusion 1.5
_SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}


class Sampling(BaseModel):
    """How pictures are sampled; the same for every picture of a call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(20, ge=1, description="denoising steps")
    sampler: Literal["ddim", "dpm++2m"] = "ddim"
    guidance_scale: float = Field(7.5, ge=1, description="classifier-free guidance; 1 turns it off")
    ip_adapter_scale: float = Field(1.0, ge=0, description="weight of the image condition; 0 leaves it out")
    batch_size: int = Field(32, ge=1, description="pictures denoised together")


@dataclass(frozen=True, eq=False)
class Condition:
    """What one picture is made from.

    Attributes
    ----------
    seed
        Seed of the picture's own noise.
    prompt, negative_prompt
        Text conditions; empty for none.
    image_embedding
        Raw CLIP image embedding, float32 ``[D]``, that goes through IP-Adapter; None for none.
    prompt_embedding
        Text condition float32 ``[T, width]`` that stands in for the prompt's own; all those of one call have one T.
    """

    seed: int
    prompt: str = ""
    negative_prompt: str = ""
    image_embedding: np.ndarray | None = None
    prompt_embedding: np.ndarray | None = None


class _BatchedPipeline(StableDiffusionPipeline):
    """A Stable-Diffusion pipeline whose rows each keep their own image embedding.

    The stock pipeline repeats the whole batch of embeddings for every row, and each picture then attends to everybody's
    (huggingface/diffusers issue 9813). Here the embeddings pass through: one tensor per adapter, ``[2B, 1, D]`` with
    guidance (negatives first), ``[B, 1, D]`` without.
    """

    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image,
        ip_adapter_image_embeds,
        device,
        num_images_per_prompt,
        do_classifier_free_guidance,
    ):
        return [embeds.to(device=device, dtype=self.unet.dtype) for embeds in ip_adapter_image_embeds]


class Backbone:
    """Draws pictures from conditions.

    A picture depends on its condition, the sampling settings and the weights; its noise is drawn on the CPU from its own
    seed, so that neither batch size nor order nor device count changes it beyond rounding.

    Parameters
    ----------
    pipeline
        A pipeline as `load_backbone` makes it.
    name
        Its name in recipes and reports.
    adapter
        Name of the loaded IP-Adapter, or None.
    """

    def __init__(self, pipeline: _BatchedPipeline, name: str, adapter: str | None) -> None:
        self.pipeline, self.name, self.adapter = pipeline, name, adapter
        self._prompts: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._scheduler_config = dict(pipeline.scheduler.config)

    @property
    def image_embedding_dim(self) -> int | None:
        """Width of the image embeddings the IP-Adapter takes, or None without an adapter."""
        if self.adapter is None:
            return None
        return int(self.pipeline.unet.encoder_hid_proj.image_projection_layers[0].image_embeds.in_features)

    @property
    def condition_width(self) -> int:
        """Width of the text condition's tokens."""
        return int(self.pipeline.unet.config.cross_attention_dim)

    @torch.no_grad()
    def image_tokens(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the condition tokens ``[B, n, width]`` that the IP-Adapter makes of raw image embeddings ``[B, D]``."""
        projection = self.pipeline.unet.encoder_hid_proj.image_projection_layers[0]
        return projection(embeddings.to(self.pipeline.device, self.pipeline.unet.dtype))

    @property
    def picture_size(self) -> int:
        """Edge of the pictures, in pixels."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def generate(self, conditions: Sequence[Condition], sampling: Sampling) -> Iterator[Image.Image]:
        """Yield one RGB picture per condition, in order."""
        for (with_image, _), run in groupby(conditions, key=_kind):
            rows = list(run)
            if with_image:
                self._check_embeddings(rows)
            for start in range(0, len(rows), sampling.batch_size):
                yield from self._batch(rows[start : start + sampling.batch_size], sampling, with_image)

    def _check_embeddings(self, rows: Sequence[Condition]) -> None:
        width = len(rows[0].image_embedding) if rows[0].image_embedding is not None else 0
        if width != self.image_embedding_dim:
            expected = (
                f"{self.image_embedding_dim}, the width of {self.adapter}"
                if self.adapter
                else "an IP-Adapter"
            )
            raise UserError(
                "recgen.ip_adapter",
                found=f"image embeddings of width {width} for backbone {self.name!r}",
                expected=expected,
                todo="Set recgen.ip_adapter to an adapter trained for recgen.encoder and recgen.backbone.",
            )

    def _batch(self, rows: Sequence[Condition], sampling: Sampling, with_image: bool) -> list[Image.Image]:
        scheduler, changes = _SAMPLERS[sampling.sampler]
        self.pipeline.scheduler = scheduler.from_config(self._scheduler_config, **changes)
        guided = sampling.guidance_scale > 1
        extra: dict[str, Any] = {}
        if self.adapter is not None:  # a UNet with an adapter needs embeddings; scale 0 leaves the branch out
            self.pipeline.set_ip_adapter_scale(sampling.ip_adapter_scale if with_image else 0.0)
            extra["ip_adapter_image_embeds"] = [self._image_embeds(rows, guided)]
        prompts = self._text_condition(rows)
        if guided:
            extra["negative_prompt_embeds"] = _as_long(
                self.embed_prompts([row.negative_prompt for row in rows]), prompts.shape[1]
            )
        return self.pipeline(
            prompt_embeds=prompts,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            latents=self._noise([row.seed for row in rows]),
            **extra,
        ).images

    def _image_embeds(self, rows: Sequence[Condition], guided: bool) -> torch.Tensor:
        width = self.image_embedding_dim or 0
        embeds = [
            np.zeros(width, np.float32) if r.image_embedding is None else r.image_embedding for r in rows
        ]
        positive = torch.from_numpy(np.stack(embeds).astype(np.float32))[:, None]
        return torch.cat([torch.zeros_like(positive), positive]) if guided else positive

    def _text_condition(self, rows: Sequence[Condition]) -> torch.Tensor:
        if rows[0].prompt_embedding is None:
            return self.embed_prompts([row.prompt for row in rows])
        given = np.stack([row.prompt_embedding for row in rows if row.prompt_embedding is not None])
        return torch.from_numpy(given).to(self.pipeline.device, self.pipeline.unet.dtype)

    @torch.no_grad()
    def embed_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the text condition ``[B, T, width]`` of prompts: each distinct one is encoded alone, and the latest are kept."""
        found: dict[str, torch.Tensor] = {}
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._prompts:
                self._prompts[prompt] = self.pipeline.encode_prompt(prompt, self.pipeline.device, 1, False)[0]
            self._prompts.move_to_end(prompt)
            found[prompt] = self._prompts[prompt]
        while len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return torch.cat([found[prompt] for prompt in prompts])

    @cached_property
    def process(self) -> DDPMScheduler:
        """The forward process the UNet was trained on, for those who train against it."""
        return DDPMScheduler.from_config(self._scheduler_config)

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Return the scaled latents ``[B, channels, h, w]`` of RGB pictures, the mean of what the VAE makes of their centres."""
        edge, vae = self.picture_size, self.pipeline.vae
        squares = [np.asarray(ImageOps.fit(picture, (edge, edge), Image.Resampling.BICUBIC)) for picture in pictures]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        return (vae.encode(pixels).latent_dist.mode() - (vae.config.shift_factor or 0)) * vae.config.scaling_factor

    def predict(self, noisy: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return the UNet's prediction for `noisy` latents at `times` under a text condition ``[B, T, width]``, without an image.

        Gradients reach the condition; the UNet has none of its own.
        """
        unet, extra = self.pipeline.unet, {}
        if self.image_embedding_dim is not None:
            self.pipeline.set_ip_adapter_scale(0.0)
            extra["image_embeds"] = [noisy.new_zeros(len(noisy), 1, self.image_embedding_dim)]
        return unet(noisy, times, condition.to(unet.dtype), added_cond_kwargs=extra).sample

    def _noise(self, seeds: Sequence[int]) -> torch.Tensor:
        unet = self.pipeline.unet
        shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(noise).to(self.pipeline.device, unet.dtype)


def _kind(condition: Condition) -> tuple[bool, bool]:
    """What has to be the same for all rows of a batch."""
    return condition.image_embedding is not None, condition.prompt_embedding is not None


def _as_long(embeddings: torch.Tensor, length: int) -> torch.Tensor:
    """Repeat the last token, or cut, so that negative and positive condition have as many tokens, which the pipeline asks for."""
    missing = length - embeddings.shape[1]
    last = embeddings[:, -1:].expand(-1, max(missing, 0), -1)
    return torch.cat([embeddings[:, :length], last], dim=1)


def load_backbone(
    spec: str, ip_adapter: str | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Backbone:
    """Load a Stable-Diffusion pipeline and, if named, its IP-Adapter.

    Parameters
    ----------
    spec
        A shipped model (``"demo-sd"``), a diffusers folder, or a hub id such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``.
    ip_adapter
        A shipped adapter (``"demo-ip-adapter"``), a safetensors file, a folder with ip-adapter.safetensors, or a file in a hub
        repository, ``h94/IP-Adapter/models/ip-adapter_sd15.safetensors``. The image encoder beside it is not loaded: recgen's
        own encoder has the embeddings already.
    """
    _quiet()
    try:
        pipeline = _BatchedPipeline.from_pretrained(
            str(asset_folder(spec)), dtype=dtype, safety_checker=None, requires_safety_checker=False
        )
    except Exception as error:  # diffusers and the hub raise many kinds; each means the weights cannot be had
        raise _missing(
            "recgen.backbone", spec, "a diffusers Stable-Diffusion folder or hub id", error
        ) from error
    if ip_adapter is not None:
        repository, subfolder, file = _adapter_file(ip_adapter)
        try:
            pipeline.load_ip_adapter(
                repository, subfolder=subfolder, weight_name=file, image_encoder_folder=None
            )
        except Exception as error:
            raise _missing(
                "recgen.ip_adapter", ip_adapter, "an IP-Adapter file for this backbone", error
            ) from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        network.requires_grad_(False)
    pipeline.unet.to(memory_format=torch.channels_last)
    name = Path(spec).name if Path(spec).exists() else spec
    return Backbone(pipeline, name, None if ip_adapter is None else Path(ip_adapter).name)


def _quiet() -> None:
    """Keep the libraries' loading bars and advice out of the run's log; errors still come."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # or every long prompt is reported: CLIP's own limit cuts it


def _adapter_file(spec: str) -> tuple[str, str, str]:
    """Split an adapter's name into what diffusers asks for: repository or folder, subfolder, file."""
    path = asset_folder(spec)
    if path.is_dir():
        return str(path), "", _ADAPTER_FILE
    if path.is_file():
        return str(path.parent), "", path.name
    owner, repository, *folders, file = spec.split("/") if spec.count("/") >= 2 else ("", spec, _ADAPTER_FILE)
    return f"{owner}/{repository}".strip("/"), "/".join(folders), file


def _missing(key: str, spec: str, expected: str, error: Exception) -> UserError:
    return UserError(
        key,
        found=f"{spec!r}, which cannot be loaded ({brief(error)})",
        expected=f"{expected} that is here or can be downloaded",
        todo="Fetch it once on a machine with a network, or set the key to a local folder or a shipped model "
        "(demo-sd, demo-ip-adapter).",
    )
