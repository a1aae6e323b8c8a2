"""One wrapper around a diffusers Stable-Diffusion pipeline: conditions in, images out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image, ImageOps

from recgen.core.errors import UserError
from recgen.diffusion.loading import Pipeline, load_pipeline
from recgen.diffusion.sampling import LCM, Sampling, scheduler

_PROMPTS_KEPT = 1024  # 240 MB of prompt embeddings with Stable Diffusion 1.5
_PIXELS_ENCODED = (
    2**21
)  # by the VAE at once: 8 images of 512 x 512, whose first layers need about 1 KB a pixel


class BrokenImageError(RuntimeError):
    """An image that is no image: pixels that are not finite, or all the same.

    Attributes
    ----------
    seed
        The seed of the condition it was made from, by which whoever asked for it finds the request.
    problem
        What is wrong with it.
    """

    def __init__(self, seed: int, problem: str) -> None:
        super().__init__(f"{problem}, drawn from seed {seed}")
        self.seed, self.problem = seed, problem


@dataclass(frozen=True, eq=False)
class Condition:
    """What one image is made from.

    Attributes
    ----------
    seed
        Seed of the image's own noise.
    prompt, negative_prompt
        Text conditions; empty for none.
    image_embedding
        Raw CLIP image embedding, float32 ``[D]``, that goes through IP-Adapter; None for none.
    prompt_embedding
        Text condition float32 ``[T, width]`` that stands in for the prompt's own; all those of one call have one T. The pooled
        embedding that Stable Diffusion XL reads too is still that of `prompt`.
    interest_tokens
        Further tokens float32 ``[S, width]`` for attention processors that ask for `interest` (I-AM-G eq. 13); without guidance's
        condition they are zeros. None for none; all those of one call have one S.
    """

    seed: int
    prompt: str = ""
    negative_prompt: str = ""
    image_embedding: np.ndarray | None = None
    prompt_embedding: np.ndarray | None = None
    interest_tokens: np.ndarray | None = None


class Backbone:
    """Draws images from conditions.

    An image depends on its condition, the sampling settings and the weights; its noise is drawn on the CPU from its own
    seed, so that neither batch size nor order nor device count changes it beyond rounding.

    Parameters
    ----------
    pipeline
        A pipeline as `load_backbone` makes it.
    name
        Its name in recipes and reports.
    adapter
        Name of the loaded IP-Adapter, or None.
    lcm_lora
        Name of the loaded LCM LoRA, or None.
    """

    def __init__(
        self, pipeline: Pipeline, name: str, adapter: str | None, lcm_lora: str | None = None
    ) -> None:
        self.pipeline, self.name, self.adapter, self.lcm_lora = pipeline, name, adapter, lcm_lora
        self._prompts: OrderedDict[str, tuple[torch.Tensor, torch.Tensor | None]] = OrderedDict()
        self.scheduler_config = dict(pipeline.scheduler.config)
        self._loras: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """The type in which the UNet calculates, by torch's name for it."""
        return str(self.pipeline.unet.dtype).removeprefix("torch.")

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
    def image_size(self) -> int:
        """Edge of the images, in pixels."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def generate(self, conditions: Sequence[Condition], sampling: Sampling) -> Iterator[Image.Image]:
        """Yield one RGB image per condition, in order.

        Raises
        ------
        BrokenImageError
            If the network's output is not finite, or an image has one colour only. Converted to 8 bits, NaN would be black.
        """
        for (with_image, *_), run in groupby(conditions, key=_kind):
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
        self.pipeline.scheduler = scheduler(sampling.sampler, self.scheduler_config)
        distilled = (
            self.pipeline.unet.config.time_cond_proj_dim is not None
        )  # its guidance is an input, not two passes
        guided = sampling.guidance_scale > 1 and not distilled
        extra: dict[str, Any] = {}
        if self.adapter is not None:  # a UNet with an adapter needs embeddings; scale 0 leaves the branch out
            self.pipeline.set_ip_adapter_scale(sampling.ip_adapter_scale if with_image else 0.0)
            extra["ip_adapter_image_embeds"] = [self._image_embeds(rows, guided)]
        if rows[0].interest_tokens is not None:
            extra["cross_attention_kwargs"] = {"interest": self._interest(rows, guided)}
        noise = [torch.Generator().manual_seed(row.seed) for row in rows]
        with self.loras(*self._loras, *self._sampler_loras(sampling, distilled)):
            pixels = self.pipeline(
                output_type="pt",
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance_scale,
                latents=self.draw_noise(noise),
                generator=noise,  # lcm draws on in every step
                **self.text_condition(rows, guided),
                **extra,
            ).images
        return self._checked(pixels, [row.seed for row in rows])

    @torch.no_grad()
    def decoded(self, latents: torch.Tensor, seeds: Sequence[int]) -> list[Image.Image]:
        """Return scaled latents ``[B, channels, h, w]`` as images; `seeds` are those that they were drawn from.

        Raises
        ------
        BrokenImageError
            As in `generate`.
        """
        vae = self.pipeline.vae
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        pixels = (vae.decode(scaled).sample.float() / 2 + 0.5).clamp(0, 1)
        return self._checked(pixels, seeds)

    def _checked(self, pixels: torch.Tensor, seeds: Sequence[int]) -> list[Image.Image]:
        """Return pixels ``[B, 3, h, w]`` from 0 to 1 as images, or raise `BrokenImageError` for the first that is none."""
        flat = pixels.flatten(1)
        finite, low, high = flat.isfinite().all(1).tolist(), flat.amin(1).tolist(), flat.amax(1).tolist()
        for place, seed in enumerate(seeds):
            if not finite[place]:
                raise BrokenImageError(seed, f"pixels that are not finite numbers, in {self.precision}")
            if low[place] == high[place]:
                raise BrokenImageError(seed, f"one colour only, {low[place]:.3f}")
        processor = self.pipeline.image_processor
        return processor.numpy_to_pil(processor.pt_to_numpy(pixels))

    def _sampler_loras(self, sampling: Sampling, distilled: bool) -> tuple[str, ...]:
        if sampling.sampler != LCM or (distilled and self.lcm_lora is None):
            return ()
        if self.lcm_lora is None:
            raise UserError(
                "recgen.lcm_lora", found="null", expected=f"an LCM LoRA for {self.name!r}, to sample with lcm"
            )
        return (LCM,)

    @contextmanager
    def loras(self, *names: str) -> Iterator[None]:
        """Draw with these LoRA adapters of the UNet in the block, all at weight 1, and with those of before after it."""
        before = self._loras
        self._activate(names)
        try:
            yield
        finally:
            self._activate(before)

    def _activate(self, names: tuple[str, ...]) -> None:
        unet = self.pipeline.unet
        if names:
            unet.set_adapters(list(names))
            unet.enable_adapters()
        elif getattr(unet, "peft_config", None):
            unet.disable_adapters()
        self._loras = names

    def _image_embeds(self, rows: Sequence[Condition], guided: bool) -> torch.Tensor:
        width = self.image_embedding_dim or 0
        embeds = [
            np.zeros(width, np.float32) if r.image_embedding is None else r.image_embedding for r in rows
        ]
        positive = torch.from_numpy(np.stack(embeds).astype(np.float32))[:, None]
        return torch.cat([torch.zeros_like(positive), positive]) if guided else positive

    def _interest(self, rows: Sequence[Condition], guided: bool) -> torch.Tensor:
        given = np.stack([row.interest_tokens for row in rows if row.interest_tokens is not None])
        positive = torch.from_numpy(given).to(self.pipeline.device, self.pipeline.unet.dtype)
        return torch.cat([torch.zeros_like(positive), positive]) if guided else positive

    def text_condition(self, rows: Sequence[Condition], guided: bool) -> dict[str, torch.Tensor]:
        """Return the pipeline's arguments that hold the text: tokens, pooled embeddings where it reads any, their negatives."""
        tokens, pooled = self._encoded([row.prompt for row in rows])
        if rows[0].prompt_embedding is not None:
            given = np.stack([row.prompt_embedding for row in rows if row.prompt_embedding is not None])
            tokens = torch.from_numpy(given).to(self.pipeline.device, self.pipeline.unet.dtype)
        found = {"prompt_embeds": tokens}
        if pooled is not None:
            found["pooled_prompt_embeds"] = pooled
        if guided:
            found |= self._negative_condition([row.negative_prompt for row in rows], tokens.shape[1])
        return found

    def _negative_condition(self, prompts: Sequence[str], length: int) -> dict[str, torch.Tensor]:
        tokens, pooled = self._encoded(prompts)
        if pooled is None:
            return {"negative_prompt_embeds": _as_long(tokens, length)}
        if (
            self.pipeline.config.force_zeros_for_empty_prompt
        ):  # as SDXL's base was trained: no negative is no embedding
            given = torch.tensor([bool(prompt) for prompt in prompts], device=tokens.device)
            tokens, pooled = tokens * given[:, None, None], pooled * given[:, None]
        return {"negative_prompt_embeds": _as_long(tokens, length), "negative_pooled_prompt_embeds": pooled}

    def embed_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the text condition ``[B, T, width]`` of prompts."""
        return self._encoded(prompts)[0]

    def pool_prompts(self, prompts: Sequence[str]) -> torch.Tensor | None:
        """Return the pooled embeddings ``[B, P]`` of prompts that Stable Diffusion XL reads beside the tokens; else None."""
        return self._encoded(prompts)[1]

    def count_tokens(self, prompt: str) -> int:
        """Return how many tokens a prompt has, its start and end among them, before anything is cut off."""
        return len(self.pipeline.tokenizer(prompt, truncation=False).input_ids)

    @property
    def prompt_limit(self) -> int:
        """Tokens of a prompt that are read, its start and end among them."""
        return int(self.pipeline.tokenizer.model_max_length)

    def end_states(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the text encoder's state ``[B, width]`` at each prompt's end, which in CLIP stands for all of it."""
        ends = [min(self.count_tokens(prompt), self.prompt_limit) - 1 for prompt in prompts]
        return self.embed_prompts(prompts)[torch.arange(len(prompts)), ends]

    @torch.no_grad()
    def _encoded(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return tokens and pooled embeddings: each distinct prompt is encoded alone, and the latest are kept."""
        found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._prompts:
                self._prompts[prompt] = self.pipeline.encode(prompt)
            self._prompts.move_to_end(prompt)
            found[prompt] = self._prompts[prompt]
        while len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        tokens, pooled = zip(*(found[prompt] for prompt in prompts), strict=True)
        return torch.cat(tokens), None if pooled[0] is None else torch.cat(pooled)

    @cached_property
    def noise_scheduler(self) -> DDPMScheduler:
        """The forward process the UNet was trained on, for those who train against it."""
        return DDPMScheduler.from_config(self.scheduler_config)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return the scaled latents ``[B, channels, h, w]`` of RGB images, the mean of what the VAE makes of their centres."""
        edge, at_once = self.image_size, max(_PIXELS_ENCODED // self.image_size**2, 1)
        squares = [ImageOps.fit(image, (edge, edge), Image.Resampling.BICUBIC) for image in images]
        blocks = [squares[start : start + at_once] for start in range(0, len(squares), at_once)]
        return torch.cat(
            [self._latents(np.stack([np.asarray(image) for image in block])) for block in blocks]
        )

    def _latents(self, images: np.ndarray) -> torch.Tensor:
        """Return the scaled latents of uint8 images ``[B, h, w, 3]``."""
        vae = self.pipeline.vae
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        mean = vae.encode(pixels).latent_dist.mode()
        return (mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        condition: torch.Tensor,
        pooled: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
        interest: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the UNet's prediction for `noisy` latents at `timesteps` under a text condition ``[B, T, width]``.

        Parameters
        ----------
        noisy, times, condition
            Gradients reach the condition; the UNet has none of its own.
        pooled
            The pooled embeddings ``[B, P]`` that Stable Diffusion XL reads as well; None stands for the empty prompt's.
        images
            Raw image embeddings ``[B, D]`` for the IP-Adapter at scale 1; None leaves the image out.
        interest
            What `Condition.interest_tokens` are, ``[B, S, width]``; None for none.
        """
        unet = self.pipeline.unet
        extra: dict[str, Any] = {}
        if self.image_embedding_dim is not None:
            self.pipeline.set_ip_adapter_scale(0.0 if images is None else 1.0)
            images = noisy.new_zeros(len(noisy), self.image_embedding_dim) if images is None else images
            extra["image_embeds"] = [images[:, None].to(unet.dtype)]
        if pooled is None:
            pooled = self.pool_prompts([""] * len(noisy))
        extra |= self.pipeline.added_conditions(pooled, self.image_size)
        more = {} if interest is None else {"cross_attention_kwargs": {"interest": interest.to(unet.dtype)}}
        return unet(noisy, timesteps, condition.to(unet.dtype), added_cond_kwargs=extra, **more).sample

    def draw_noise(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        unet = self.pipeline.unet
        shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.cat(noise).to(self.pipeline.device, unet.dtype)


def _kind(condition: Condition) -> tuple[bool, bool, bool]:
    """What has to be the same for all rows of a batch."""
    given = (condition.image_embedding, condition.prompt_embedding, condition.interest_tokens)
    return given[0] is not None, given[1] is not None, given[2] is not None


def _as_long(embeddings: torch.Tensor, length: int) -> torch.Tensor:
    """Repeat the last token, or cut, so that negative and positive condition have as many tokens, which the pipeline asks for."""
    missing = length - embeddings.shape[1]
    last = embeddings[:, -1:].expand(-1, max(missing, 0), -1)
    return torch.cat([embeddings[:, :length], last], dim=1)


def load_backbone(
    spec: str,
    ip_adapter: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    lcm_lora: str | None = None,
    key: str = "recgen.backbone",
) -> Backbone:
    """Load a Stable-Diffusion pipeline (1.x, 2.x or XL, as its model_index.json says) and, if named, IP-Adapter and LCM LoRA.

    Parameters
    ----------
    spec
        A shipped model (``"demo-sd"``), a diffusers folder, or a hub id such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``.
    ip_adapter
        A shipped adapter (``"demo-ip-adapter"``), a safetensors file, a folder with ip-adapter.safetensors, or a file in a hub
        repository, ``h94/IP-Adapter/models/ip-adapter_sd15.safetensors``. The image encoder beside it is not loaded: recgen's
        own encoder has the embeddings already.
    precision
        Type of the pipeline's weights, by torch's name for it.
    lcm_lora
        The same for a LoRA that the sampler lcm draws with, ``latent-consistency/lcm-lora-sdv1-5``; in a folder or repository it
        is pytorch_lora_weights.safetensors.
    key
        Where `spec` was read from, for messages.

    Raises
    ------
    UserError
        For weights that cannot be had, or do not fit each other.
    """
    pipeline = load_pipeline(spec, ip_adapter, lcm_lora, device, getattr(torch, precision), key)
    name = Path(spec).name if Path(spec).exists() else spec
    loaded = [None if each is None else Path(each).name for each in (ip_adapter, lcm_lora)]
    return Backbone(pipeline, name, *loaded)
