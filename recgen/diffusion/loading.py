"""Loads diffusers pipelines of each family, with IP-Adapter and LCM LoRA, and gives them one interface for `Backbone`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision
from recgen.core.machine import return_heap
from recgen.diffusion.economy import Memory
from recgen.diffusion.sampling import LCM
from recgen.diffusion.weights import ADAPTER_FILE, LORA_FILE, family, missing, weight_file

prepare_torchvision()
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: E402
from diffusers.utils import logging as diffusers_logging  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402


class _OwnEmbeddings:
    """A pipeline whose rows each keep their own image embedding.

    The stock pipelines repeat the whole batch of embeddings for every row, and each image then attends to everybody's
    (huggingface/diffusers issue 9813). Here the embeddings pass through: one tensor per adapter, ``[2B, 1, D]`` with
    guidance (negatives first), ``[B, 1, D]`` without.
    """

    unet: Any

    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image,
        ip_adapter_image_embeds,
        device,
        num_images_per_prompt,
        do_classifier_free_guidance,
    ):
        return [embeds.to(device=device, dtype=self.unet.dtype) for embeds in ip_adapter_image_embeds]


class _StableDiffusion(_OwnEmbeddings, StableDiffusionPipeline):  # type: ignore[misc]  # untyped
    """Stable Diffusion 1.x and 2.x."""

    family = "stable-diffusion"
    wants_precise_vae = (
        False  # their cards do not say; diffusers fills in True, and its own pipeline ignores that
    )

    def encode(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """Return a prompt's tokens ``[1, T, width]``; there is no pooled embedding."""
        return self.encode_prompt(prompt, self.device, 1, False)[0], None

    def added_conditions(self, pooled: Tensor | None, edge: int) -> dict[str, Tensor]:
        """Return nothing: the UNet reads no condition beside the tokens."""
        return {}


class _StableDiffusionXL(_OwnEmbeddings, StableDiffusionXLPipeline):  # type: ignore[misc]  # untyped
    """Stable Diffusion XL: two text encoders side by side, the second one's pooled embedding, and the image's sizes."""

    family = "stable-diffusion-xl"
    wants_precise_vae = (
        True  # where the card says force_upcast: in 16 bits it overflows, or has fewer bits than a pixel
    )

    def encode(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """Return a prompt's tokens of both encoders ``[1, T, width]`` and its pooled embedding ``[1, P]``."""
        tokens, _, pooled, _ = self.encode_prompt(
            prompt, device=self.device, do_classifier_free_guidance=False
        )
        return tokens, pooled

    def added_conditions(self, pooled: Tensor | None, edge: int) -> dict[str, Tensor]:
        """Return what the UNet reads beside the tokens: pooled embeddings ``[B, P]`` and squares' sizes ``[B, 6]``."""
        assert pooled is not None
        size = (edge, edge)
        sizes = self._get_add_time_ids(size, (0, 0), size, pooled.dtype, pooled.shape[-1])
        return {"text_embeds": pooled, "time_ids": sizes.to(pooled.device).repeat(len(pooled), 1)}


Pipeline = _StableDiffusion | _StableDiffusionXL

_PIPELINES: dict[str, tuple[Any, dict[str, Any]]] = {
    _StableDiffusion.family: (_StableDiffusion, {"safety_checker": None, "requires_safety_checker": False}),
    _StableDiffusionXL.family: (_StableDiffusionXL, {"add_watermarker": False}),
}


def load_pipeline(
    spec: str,
    ip_adapter: str | None,
    lcm_lora: str | None,
    device: str,
    dtype: torch.dtype,
    key: str,
    memory: Memory,
) -> Pipeline:
    """Load a pipeline and, if named, its IP-Adapter and its LCM LoRA, see `load_backbone`; nothing trains.

    The LoRA is there under the name `recgen.diffusion.sampling.LCM`, and off. Attention is torch's own
    `scaled_dot_product_attention`, diffusers' default; on a CPU, UNet and VAE are in channels-last order. Not so on a GPU, where
    torch's group normalisation copies such tensors into the other order and back: on an H100 a batch took a seventh longer.

    Raises
    ------
    UserError
        For weights that cannot be had or do not fit the pipeline; `key` is where `spec` was read from.
    """
    _quiet()
    kind, options = _PIPELINES[family(spec, key)]
    try:
        pipeline = kind.from_pretrained(
            str(asset_folder(spec)), dtype=dtype, trust_remote_code=False, **options
        )
    except Exception as error:  # diffusers and the hub raise many kinds; each means the weights cannot be had
        raise missing(key, spec, "a diffusers Stable-Diffusion folder or hub id", error) from error
    if ip_adapter is not None:
        _load_adapter(pipeline, ip_adapter)
    if lcm_lora is not None:
        _load_lcm(pipeline, lcm_lora)
    pipeline.set_progress_bar_config(disable=True)
    if kind.wants_precise_vae and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)
    for network in pipeline.components.values():
        if isinstance(network, torch.nn.Module):
            network.requires_grad_(False)
    if device == "cpu":
        for network in (pipeline.unet, pipeline.vae):
            network.to(memory_format=torch.channels_last)
    _save_memory(pipeline, memory, device)
    return_heap()  # for Stable Diffusion 1.5 a third as much again as its weights, from changing their type and order
    return pipeline


def _save_memory(pipeline: Pipeline, memory: Memory, device: str) -> None:
    """Put the pipeline on its device as `memory` asks for."""
    if memory.vae_slicing:
        pipeline.vae.enable_slicing()
    if memory.vae_tiling:
        pipeline.vae.enable_tiling()
    if memory.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    if device == "cpu" or memory.offload == "none":
        pipeline.to(device)
    elif memory.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def _load_adapter(pipeline: Pipeline, spec: str) -> None:
    repository, subfolder, file = weight_file(spec, ADAPTER_FILE)
    try:
        pipeline.load_ip_adapter(repository, subfolder=subfolder, weight_name=file, image_encoder_folder=None)
    except Exception as error:
        raise missing("recgen.ip_adapter", spec, "an IP-Adapter file for this backbone", error) from error


def _load_lcm(pipeline: Pipeline, spec: str) -> None:
    repository, subfolder, file = weight_file(spec, LORA_FILE)
    try:
        pipeline.load_lora_weights(
            repository, subfolder=subfolder or None, weight_name=file, adapter_name=LCM
        )
        pipeline.unet.disable_adapters()
    except Exception as error:
        raise missing("recgen.lcm_lora", spec, "an LCM LoRA for this backbone", error) from error


def _quiet() -> None:
    """Keep the libraries' loading bars and advice out of the run's log; errors still come."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # or every long prompt is reported: CLIP's own limit cuts it
