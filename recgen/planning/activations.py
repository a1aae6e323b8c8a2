"""What calls of the published networks take beside their weights; `experiments/memory/trace.py` finds these numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Activations:
    """MiB that a call of a diffusion pipeline's networks takes at most, for each latent image, in two bytes a number.

    Attributes
    ----------
    sample
        A row of the denoising network without gradients.
    train, recomputed
        A row with gradients; the same with gradient checkpointing.
    decode, encode
        An image through the VAE.
    """

    sample: float
    train: float
    recomputed: float
    decode: float
    encode: float

    def scaled(self, network: float, vae: float) -> Activations:
        """Return those of a network and a VAE of the same make, so many times as large."""
        return Activations(
            self.sample * network, self.train * network, self.recomputed * network, self.decode * vae, self.encode * vae
        )  # fmt: skip


DEMO = Activations(0.363, 2.258, 0.805, 1.252, 1.0)
SD15 = Activations(65.116, 728.582, 215.383, 384.031, 320.0)
SD2 = Activations(146.403, 1546.228, 396.284, 864.07, 720.0)
SDXL = Activations(157.806, 4960.734, 522.93, 1536.125, 1280.0)

VIT_H = 7.529
"""MiB of an image in ViT-H-14, in two bytes a number."""

LANGUAGE = {"train": 436.328, "train, recomputed": 45.504}
"""MiB of 100 tokens in Llama-2-7b with LoRA of rank 8, with gradients, in two bytes a number."""
LANGUAGE_SIZE = 32 * 4096
"""Its layers times its width: other language models take as much for each layer and unit of width."""
