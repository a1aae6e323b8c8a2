"""Train the demo VAE (AutoencoderKL, 64 x 64 x 3 to 16 x 16 x 4) on rendered pictures."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from corpus import Corpus
from torch.nn import functional as F

from recgen.core.compat import prepare_torchvision

prepare_torchvision()
from diffusers import AutoencoderKL  # noqa: E402


def new_vae() -> AutoencoderKL:
    """A small VAE with a down-sampling factor of 4."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=64,
    )  # fmt: skip


def as_input(images: np.ndarray) -> torch.Tensor:
    """uint8 ``[B, 64, 64, 3]`` to float ``[B, 3, 64, 64]`` in [-1, 1]."""
    return (
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    )  # channels last in memory: faster here


def main(out: Path, seconds: float, resume: bool = False, decoder_only: bool = False) -> None:
    """Train from scratch, or go on; `decoder_only` sharpens the images and leaves the latents as they are."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(out, dtype=torch.float32) if resume else new_vae()
    vae.train().to(memory_format=torch.channels_last)
    corpus = Corpus(6_000, seed=2)
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(not decoder_only)
    optimiser = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad], lr=1e-3, weight_decay=1e-4
    )
    rng, start, step = np.random.default_rng(0), time.time(), 0
    while (spent := time.time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = (1e-3 if resume else 1.2e-3) * min(1, step / 50) * max(0.02, 1 - spent / seconds)
        x = as_input(corpus.images[rng.integers(len(corpus.images), size=16)])
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        areas = F.mse_loss(
            F.avg_pool2d(y, 8), F.avg_pool2d(x, 8)
        )  # a cast over all colours is little error a pixel
        reconstruction = F.mse_loss(y, x) + 0.2 * F.l1_loss(y, x) + 8 * areas
        loss = reconstruction + 1e-5 * posterior.kl().mean() / 64
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            psnr = 10 * np.log10(4 / F.mse_loss(y, x).item())
            print(
                f"step {step} {spent:.0f}s psnr {psnr:.2f} areas {10 * np.log10(4 / areas.item()):.2f} "
                f"kl {posterior.kl().mean().item():.0f}",
                flush=True,
            )
        step += 1
    if decoder_only:
        vae.half().save_pretrained(out)
        return
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(as_input(corpus.images[i : i + 100])).latent_dist.mean for i in range(0, 1000, 100)]
        )
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.half().save_pretrained(out)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        resume="--resume" in sys.argv,
        decoder_only="--decoder-only" in sys.argv,
    )
