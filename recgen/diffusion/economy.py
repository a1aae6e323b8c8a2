"""What is done to need less memory and time, as settings; nothing here imports torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["auto", "float32", "bf16", "fp16"]


class Memory(BaseModel):
    """What is done to need less memory. Images are the same but for rounding; tiles alone leave faint seams.

    Attributes
    ----------
    vae_slicing
        Whether the VAE encodes and decodes one image after the other.
    vae_tiling
        Whether it does so in overlapping tiles, which bounds what a large image needs.
    gradient_checkpointing
        Whether training recomputes activations of the UNet and the language model in the backward pass: about a third more time
        for a fraction of the memory. Null takes the backbone's, see `recgen.diffusion.profiles`.
    offload
        `model` keeps the networks of the pipeline in main memory and moves each to the GPU while it works; `sequential` does so
        layer by layer, which is slow. Without a GPU it says nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vae_slicing: bool = True
    vae_tiling: bool = False
    gradient_checkpointing: bool | None = None
    offload: Literal["none", "model", "sequential"] = "none"
