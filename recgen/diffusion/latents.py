"""Between images and latents: what the VAE does, in its own type, one way and the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def encode(vae: Any, images: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the scaled latents of uint8 images ``[B, h, w, 3]``: the means, on `device` and in the UNet's `dtype`."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, vae.dtype) / 127.5 - 1
    mean = vae.encode(pixels).latent_dist.mode()
    return ((mean - _shift(vae)) * vae.config.scaling_factor).to(dtype)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Return pixels ``[B, 3, h, w]``, float32 from 0 to 1, of scaled latents; gradients pass through."""
    decoded = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor + _shift(vae)).sample
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def _shift(vae: Any) -> float:
    return vae.config.shift_factor or 0.0
