"""Sizes of the diffusion networks and encoders a run may name, for memory and time; every number says where it is from.

FLOPs were counted by torch's FlopCounterMode on the published architectures (diffusers and open_clip configurations, no weights),
two per multiply-add; parameters likewise.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgen.assets import asset_folder
from recgen.diffusion.weights import ADAPTER_FILE, weight_file
from recgen.planning import activations
from recgen.planning.activations import Activations

_LONGEST_HEADER = 2**27


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
    text_width, image_width
        Width of the text condition's tokens, and of the image embeddings that its IP-Adapter takes.
    adapter
        Parameters of its IP-Adapter for ViT-H-14's embeddings.
    activations
        What its calls take beside the weights.
    """

    name: str
    edge: int
    unet: float
    vae: float
    text: float
    evaluation: float
    decode: float
    encode: float
    text_width: int
    image_width: int
    adapter: float
    activations: Activations

    @property
    def parameters(self) -> float:
        """All parameters of the pipeline."""
        return self.unet + self.vae + self.text


DEMO = DiffusionNetwork(
    "demo-sd", 64, 4.51e6, 0.73e6, 0.52e6, 0.473, 0.719, 0.335, 128, 64, 0.14e6, activations.DEMO
)
SD15 = DiffusionNetwork(
    "Stable Diffusion 1.5", 512, 860e6, 84e6, 123e6, 803.3, 2514.5, 1116.7, 768, 1024, 22e6, activations.SD15
)
SD2 = DiffusionNetwork(
    "Stable Diffusion 2.1", 768, 866e6, 84e6, 340e6, 2149.1, 5700.0, 2530.0, 1024, 1024, 25e6, activations.SD2
)
SDXL = DiffusionNetwork(
    "Stable Diffusion XL",
    1024,
    2567e6,
    84e6,
    817e6,
    6761.2,
    10470.4,
    4879.0,
    2048,
    1024,
    350e6,
    activations.SDXL,
)
_NAMES = (("xl", SDXL), ("stable-diffusion-2", SD2), ("sd2", SD2))

ENCODERS = {
    "demo-clip": (1.86e6, 0.02),
    "demo-resnet": (0.88e6, 0.02),
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
    sizes = [parameters(folder / part) for part in ("unet", "vae")]
    text = sum(parameters(folder / part) for part in ("text_encoder", "text_encoder_2"))
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
        int(unet.get("cross_attention_dim") or nearest.text_width),
        nearest.image_width,
        nearest.adapter * sizes[0] / nearest.unet,
        nearest.activations.scaled(share, small),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def parameters(folder: Path) -> float:
    """Return how many numbers the safetensors files of a folder hold, by their headers alone; 0 without any."""
    return (
        sum(file_parameters(str(file)) for file in folder.glob("*.safetensors")) if folder.is_dir() else 0.0
    )


def file_parameters(path: str) -> float:
    """Return how many numbers a safetensors file holds, by its header alone; 0 where there is no such file."""
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _LONGEST_HEADER else {}
    except (OSError, ValueError):
        return 0.0
    return float(sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__"))


def stored(place: Path, otherwise: float) -> float:
    """Return the bytes of a safetensors file or of those of a folder; `otherwise` where there are none."""
    files = [place] if place.is_file() else place.glob("*.safetensors") if place.is_dir() else []
    return float(sum(file.stat().st_size for file in files)) or otherwise


def pipeline_file(spec: str, network: DiffusionNetwork) -> float:
    """Return the bytes of the largest of a pipeline's networks on disk; published pipelines are in float32."""
    folder = asset_folder(spec)
    parts = (stored(folder / part, 0.0) for part in ("unet", "vae", "text_encoder", "text_encoder_2"))
    return max(parts) or 4 * network.unet


def encoder_file(spec: Any) -> float:
    """Return the bytes of an encoder's weights on disk; published ones are in float32."""
    place = asset_folder(spec) if isinstance(spec, str) else Path(spec.pretrained or "")
    return stored(place, 4 * encoder_size(spec)[0])


def encoder_size(spec: Any) -> tuple[float, float]:
    """Return parameters, and GFLOPs of an image, of an encoder as the configuration names it; unknown ones count as ViT-H-14."""
    name = spec if isinstance(spec, str) else spec.model
    folder = asset_folder(name)
    if name not in ENCODERS and folder.is_dir():
        own = parameters(folder)
        return own, ENCODERS["ViT-H-14"][1] * own / ENCODERS["ViT-H-14"][0]
    return ENCODERS.get(name, ENCODERS["ViT-H-14"])


@dataclass(frozen=True)
class LanguageNetwork:
    """A causal language model: its parameters, layers and width."""

    parameters: float
    layers: int
    width: int


def language_network(spec: str | None) -> LanguageNetwork:
    """Return the sizes of a language model: of a folder by its files, of a hub id by the size in its name (else Llama-2-7b's).

    >>> language_network("meta-llama/Llama-2-7b-chat-hf")
    LanguageNetwork(parameters=7000000000.0, layers=32, width=4096)
    >>> language_network("unknown/model").parameters
    7000000000.0
    """
    if spec is None:
        return LanguageNetwork(0.0, 0, 0)
    folder = asset_folder(spec)
    if folder.is_dir():
        shape = _json(folder / "config.json")
        layers, width = (int(shape.get(key) or 0) for key in ("num_hidden_layers", "hidden_size"))
        return LanguageNetwork(parameters(folder), layers, width)
    found = re.search(r"(\d+(?:\.\d+)?)b\b", spec.lower().replace("-", " "))
    return LanguageNetwork(float(found[1]) * 1e9 if found else 7e9, 32, 4096)


_CAPTIONERS = {"blip2-opt-2.7b": 3.74e9, "llava-1.5-7b": 7.06e9}  # by their cards


def captioner_parameters(spec: str) -> float:
    """Return the parameters of a model that describes images: of a folder by its files, else by its card; 0 for a tagger."""
    folder = asset_folder(spec)
    if folder.is_dir():
        return parameters(folder)
    return next((size for name, size in _CAPTIONERS.items() if name in spec), 0.0)


def adapter_parameters(spec: str, network: DiffusionNetwork) -> float:
    """Return the parameters of an IP-Adapter: of its file, else as published for the pipeline."""
    folder, below, name = weight_file(spec, ADAPTER_FILE)
    return file_parameters(str(Path(folder) / below / name)) or network.adapter
