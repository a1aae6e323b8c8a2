"""Sizes of the diffusion networks and encoders a run may name, for memory and time; every number says where it is from.

FLOPs were counted by torch's FlopCounterMode on the published architectures (diffusers and open_clip configurations, no weights),
two per multiply-add; parameters likewise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgen.assets import asset_folder


@dataclass(frozen=True)
class DiffusionNetwork:
    """A pipeline.

    Attributes
    ----------
    name
        For messages.
    edge
        Pixels of an image's edge.
    unet, vae, text
        Parameters of the denoising network, of the VAE and of the text encoders.
    evaluation
        GFLOPs of one row through the denoising network.
    decode, encode
        GFLOPs of an image through the VAE.
    activations
        GiB that a row of one sampling step takes beside the weights, in two bytes a number; the VAE's decoder takes as much once.
    """

    name: str
    edge: int
    unet: float
    vae: float
    text: float
    evaluation: float
    decode: float
    encode: float
    activations: float

    @property
    def parameters(self) -> float:
        """All parameters of the pipeline."""
        return self.unet + self.vae + self.text


DEMO = DiffusionNetwork("demo-sd", 64, 4.51e6, 0.73e6, 0.8e6, 0.473, 0.719, 0.335, 0.002)
SD15 = DiffusionNetwork("Stable Diffusion 1.5", 512, 860e6, 84e6, 123e6, 803.3, 2514.5, 1116.7, 0.45)
SD2 = DiffusionNetwork("Stable Diffusion 2.1", 768, 866e6, 84e6, 340e6, 2149.1, 5700.0, 2530.0, 1.0)
SDXL = DiffusionNetwork("Stable Diffusion XL", 1024, 2567e6, 84e6, 817e6, 6761.2, 10470.4, 4879.0, 1.5)
_NAMES = (("xl", SDXL), ("stable-diffusion-2", SD2), ("sd2", SD2))

ENCODERS = {
    "demo-clip": (0.9e6, 0.02),
    "ViT-B-32": (151e6, 8.8),
    "ViT-L-14": (428e6, 162.0),
    "ViT-H-14": (986e6, 334.6),
}
"""Parameters, and GFLOPs of an image, of open_clip's architectures."""


def diffusion_network(spec: str) -> DiffusionNetwork:
    """Return the sizes of a pipeline by its name, hub id or folder; nothing is loaded or fetched.

    A folder that is here is told by its configuration: by its family and, where its network is another than the published one, by
    the bytes of its weights, as a network of the same make (FLOPs of a row ~ parameters x latent pixels).
    """
    folder = asset_folder(spec)
    if folder.is_dir():
        return _of_folder(spec, folder)
    low = spec.lower()
    return next((network for part, network in _NAMES if part in low), SD15)


def _of_folder(spec: str, folder: Path) -> DiffusionNetwork:
    unet = _json(folder / "unet/config.json")
    kind = str(_json(folder / "model_index.json").get("_class_name", ""))
    nearest = SDXL if "XL" in kind else SD15
    sizes = [_bytes(folder / part) / 4 for part in ("unet", "vae")]
    text = sum(_bytes(folder / part) for part in ("text_encoder", "text_encoder_2")) / 4
    if spec.startswith("demo-sd"):
        return DEMO
    if sizes[0] > nearest.unet / 3:  # the published network, whatever type its weights are stored in
        return nearest
    edge = 8 * int(unet.get("sample_size") or 64)
    share = sizes[0] / nearest.unet * (edge / nearest.edge) ** 2
    small = sizes[1] / nearest.vae * (edge / nearest.edge) ** 2
    return DiffusionNetwork(
        spec,
        edge,
        sizes[0],
        sizes[1],
        text,
        nearest.evaluation * share,
        nearest.decode * small,
        nearest.encode * small,
        nearest.activations * max(share, small),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0


def encoder_size(spec: Any) -> tuple[float, float]:
    """Return parameters, and GFLOPs of an image, of an encoder as the configuration names it; unknown ones count as ViT-H-14."""
    name = spec if isinstance(spec, str) else spec.model
    folder = asset_folder(name)
    if name not in ENCODERS and folder.is_dir():
        parameters = _bytes(folder) / 4
        return parameters, ENCODERS["ViT-H-14"][1] * parameters / ENCODERS["ViT-H-14"][0]
    return ENCODERS.get(name, ENCODERS["ViT-H-14"])


def language_model_parameters(spec: str | None) -> float:
    """Return the parameters of a causal language model: of a folder by its bytes, of a hub id by the size in its name.

    >>> language_model_parameters("meta-llama/Llama-2-7b-chat-hf")
    7000000000.0
    >>> language_model_parameters("unknown/model")
    7000000000.0
    """
    import re

    if spec is None:
        return 0.0
    folder = asset_folder(spec)
    if folder.is_dir():
        return _bytes(folder) / (
            2 if _json(folder / "config.json").get("torch_dtype") in ("float16", "bfloat16") else 4
        )
    found = re.search(r"(\d+(?:\.\d+)?)b\b", spec.lower().replace("-", " "))
    return float(found[1]) * 1e9 if found else 7e9
