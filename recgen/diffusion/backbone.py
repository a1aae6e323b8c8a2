"""One wrapper around a diffusers Stable-Diffusion pipeline: conditions in, images out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image, ImageOps

from recgen.core.batching import Batcher
from recgen.core.device import working_type
from recgen.core.errors import UserError
from recgen.diffusion.conditions import BrokenImageError, Condition, kind
from recgen.diffusion.economy import Memory
from recgen.diffusion.latents import decode, encode
from recgen.diffusion.loading import Pipeline, load_pipeline
from recgen.diffusion.profiles import profile_of
from recgen.diffusion.prompts import PromptEncoder
from recgen.diffusion.sampling import LCM, LCM_GUIDANCE, Sampling, scheduler

_PIXELS_AT_ONCE = 2**21  # of images that the VAE is given together: 8 of 512 x 512


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

    Attributes
    ----------
    prompts
        What makes the text condition of prompts.
    """

    def __init__(
        self, pipeline: Pipeline, name: str, adapter: str | None, lcm_lora: str | None = None
    ) -> None:
        self.pipeline, self.name, self.adapter, self.lcm_lora = pipeline, name, adapter, lcm_lora
        self.prompts = PromptEncoder(pipeline)
        self.scheduler_config = dict(pipeline.scheduler.config)
        self._loras: tuple[str, ...] = ()
        self.batcher = Batcher()

    @property
    def device(self) -> torch.device:
        """Where the networks work, wherever their weights wait."""
        return self.pipeline._execution_device

    @property
    def checkpoints_gradients(self) -> bool:
        """Whether training against it recomputes activations in the backward pass; what trains beside it does the same."""
        return bool(self.pipeline.unet.is_gradient_checkpointing)

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
        own = next(projection.parameters())
        return projection(embeddings.to(own.device, own.dtype)).to(self.device)

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
        UserError
            If memory does not suffice for one image. Batches are halved before that, down to one.
        """
        for (with_image, *_), run in groupby(conditions, key=kind):
            rows = list(run)
            if with_image:
                self._check_embeddings(rows)

            def work(batch: Sequence[Condition], with_image: bool = with_image) -> list[Image.Image]:
                return self._batch(batch, sampling, with_image)

            for images in self.batcher.map("drawing", rows, sampling.batch_size, work):
                yield from images

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
            latents = self.pipeline(
                output_type="latent",
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance_scale,
                latents=self.draw_noise(noise),
                generator=noise,  # lcm draws on in every step
                **self.prompts.condition(rows, guided),
                **extra,
            ).images
        return self.decoded(latents, [row.seed for row in rows])

    @property
    def _images_at_once(self) -> int:
        return max(_PIXELS_AT_ONCE // self.image_size**2, 1)

    @torch.no_grad()
    def decoded(self, latents: torch.Tensor, seeds: Sequence[int]) -> list[Image.Image]:
        """Return scaled latents ``[B, channels, h, w]`` as images; `seeds` are those that they were drawn from.

        Raises
        ------
        BrokenImageError
            As in `generate`.
        """
        vae = self.pipeline.vae
        parts = self.batcher.map("decoding", latents, self._images_at_once, lambda some: decode(vae, some))  # type: ignore[arg-type]
        return self._checked(torch.cat(list(parts)), seeds)

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
        if sampling.guidance_scale > LCM_GUIDANCE and not distilled:
            raise UserError(
                "guidance_scale",
                found=f"{sampling.guidance_scale:g} with the sampler lcm",
                expected=f"1 to {LCM_GUIDANCE:g}: guidance is distilled into an LCM LoRA",
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
        positive = torch.from_numpy(given).to(self.device, self.pipeline.unet.dtype)
        return torch.cat([torch.zeros_like(positive), positive]) if guided else positive

    def embed_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the text condition ``[B, T, width]`` of prompts."""
        return self.prompts.encode(prompts)[0]

    def pool_prompts(self, prompts: Sequence[str]) -> torch.Tensor | None:
        """Return the pooled embeddings ``[B, P]`` of prompts that Stable Diffusion XL reads beside the tokens; else None."""
        return self.prompts.encode(prompts)[1]

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

    @cached_property
    def noise_scheduler(self) -> DDPMScheduler:
        """The forward process the UNet was trained on, for those who train against it."""
        return DDPMScheduler.from_config(self.scheduler_config)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return the scaled latents ``[B, channels, h, w]`` of RGB images, the mean of what the VAE makes of their centres."""
        edge, vae = self.image_size, self.pipeline.vae
        squares = [ImageOps.fit(image, (edge, edge), Image.Resampling.BICUBIC) for image in images]

        def latents(some: Sequence[Image.Image]) -> torch.Tensor:
            pixels = np.stack([np.asarray(image) for image in some])
            return encode(vae, pixels, self.device, self.pipeline.unet.dtype)

        return torch.cat(list(self.batcher.map("encoding", squares, self._images_at_once, latents)))

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        condition: torch.Tensor,
        pooled: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
        interest: torch.Tensor | None = None,
        image_scale: float = 1.0,
    ) -> torch.Tensor:
        """Return the UNet's prediction ``[B, channels, h, w]`` for noisy latents at timesteps under a text condition.

        Parameters
        ----------
        noisy, timesteps, condition
            Latents ``[B, channels, h, w]``, int64 ``[B]`` and ``[B, T, width]``. Gradients reach the condition; the UNet has
            none of its own.
        pooled
            The pooled embeddings ``[B, P]`` that Stable Diffusion XL reads as well; None stands for the empty prompt's.
        images
            Raw image embeddings ``[B, D]`` for the IP-Adapter; None leaves the image out.
        interest
            What `Condition.interest_tokens` are, ``[B, S, width]``; None for none.
        image_scale
            The IP-Adapter's scale.
        """
        unet = self.pipeline.unet
        extra: dict[str, Any] = {}
        if self.image_embedding_dim is not None:
            self.pipeline.set_ip_adapter_scale(0.0 if images is None else image_scale)
            images = noisy.new_zeros(len(noisy), self.image_embedding_dim) if images is None else images
            extra["image_embeds"] = [images[:, None].to(unet.dtype)]
        if pooled is None:
            pooled = self.pool_prompts([""] * len(noisy))
        extra |= self.pipeline.added_conditions(pooled, self.image_size)
        more = {} if interest is None else {"cross_attention_kwargs": {"interest": interest.to(unet.dtype)}}
        return unet(noisy, timesteps, condition.to(unet.dtype), added_cond_kwargs=extra, **more).sample

    def draw_noise(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Return standard normal latents ``[B, channels, h, w]``, a row from each CPU generator, in the UNet's type."""
        unet = self.pipeline.unet
        shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.cat(noise).to(self.device, unet.dtype)


def load_backbone(
    spec: str,
    ip_adapter: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    lcm_lora: str | None = None,
    key: str = "recgen.backbone",
    memory: Memory = Memory(),  # noqa: B008 (frozen)
    compiled: bool = False,
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
        Type of the pipeline's weights: auto, float32, bf16 or fp16, see `recgen.core.device`. Stable Diffusion XL's VAE stays in
        float32 where its card asks for it.
    lcm_lora
        The same for a LoRA that the sampler lcm draws with, ``latent-consistency/lcm-lora-sdv1-5``; in a folder or repository it
        is pytorch_lora_weights.safetensors.
    key
        Where `spec` was read from, for messages.
    memory
        What is done to need less memory.
    compiled
        Whether torch compiles the UNet's transformer blocks when they first run.

    Raises
    ------
    UserError
        For weights that cannot be had, or do not fit each other.
    """
    if memory.gradient_checkpointing is None:
        memory = memory.model_copy(update={"gradient_checkpointing": profile_of(spec).gradient_checkpointing})
    dtype = working_type(precision, device)
    pipeline = load_pipeline(spec, ip_adapter, lcm_lora, device, dtype, key, memory)
    if compiled:
        pipeline.unet.compile_repeated_blocks(dynamic=True)
    name = Path(spec).name if Path(spec).exists() else spec
    loaded = [None if each is None else Path(each).name for each in (ip_adapter, lcm_lora)]
    return Backbone(pipeline, name, *loaded)
