"""Memory and disk of a run, item by item: weights by their parameters and type, activations by images drawn at once."""

from __future__ import annotations

from dataclasses import dataclass

from recgen.config.loader import Config
from recgen.planning.networks import diffusion_network, encoder_size, language_model_parameters
from recgen.planning.sizes import Sizes

_GIB = 2.0**30
_PROGRAM = 0.75  # GiB: Python with torch, RecBole and diffusers
_ROW = 500  # bytes of an interaction in the tables and RecBole's copies of them


@dataclass(frozen=True)
class Item:
    """Something that takes memory, and how many GiB of it."""

    what: str
    gib: float


def items(config: Config, sizes: Sizes, on_gpu: bool) -> list[Item]:
    """Return what is in memory at the same time while images are drawn: on the GPU, or on this machine.

    Parameters
    ----------
    config
        The configuration.
    sizes
        Of its data.
    on_gpu
        Whether networks are on a GPU; what is in the machine's own memory is then left out.
    """
    s = config.settings
    halves = s.precision in ("bf16", "fp16") or (s.precision == "auto" and on_gpu)
    width = 2 if halves else 4
    network = diffusion_network(s.backbone)
    batch = max((_batch(spec.settings) for spec in config.generators.values()), default=1)
    batch = min(batch, s.shard_size)
    activations = network.activations * width / 2
    found = [
        Item(f"backbone {s.backbone}, {s.precision}", network.parameters * width / _GIB),
        Item(f"{batch} images of {network.edge} pixels at once", 2 * batch * activations),
        Item(
            f"encoder {s.encoder if isinstance(s.encoder, str) else s.encoder.model}",
            encoder_size(s.encoder)[0] * (2 if on_gpu and s.precision != "float32" else 4) / _GIB,
        ),
    ]
    if any("keywords" in spec.needs or "tags" in spec.needs for spec in config.generators.values()):
        found.append(
            Item(f"language model {s.llm}", language_model_parameters(s.llm) * (2 if on_gpu else 4) / _GIB)
        )
    if not on_gpu:
        found += [Item("program", _PROGRAM), Item("data", sizes.interactions * _ROW / _GIB)]
    return found


def _batch(settings: dict[str, object]) -> int:
    decode = settings.get("decode")
    return int(decode.get("batch_size", 1)) if isinstance(decode, dict) else 1


def disk(config: Config, images: int, sizes: Sizes) -> float:
    """Return the GiB that a run's folder takes: its images, their embeddings and its tables."""
    edge = diffusion_network(config.settings.backbone).edge
    image = 1.7 * edge**2 + 2_000  # a PNG of a photograph; flat colours take less
    return (images * image + sizes.items * 8_000 + sizes.interactions * 60) / _GIB
