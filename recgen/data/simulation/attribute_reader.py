"""Reads attributes and factors off an image, so that a generated one can be checked against the truth.

Only evaluation uses it: no generator and no ranking model ever sees it. Its weights and its measured accuracy are in
``recgen/assets/attribute-reader`` and are made by ``experiments/demo_models/train_reader.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recgen.core.errors import UserError
from recgen.data.simulation.attributes import NAMES, SIZES
from recgen.data.simulation.factors import FACTORS

SIDE = 64
_BATCH = 256


class ReaderNetwork(nn.Module):
    """A small convolutional network: float ``[B, 3, 64, 64]`` in [0, 1] to ``[B, sum(SIZES) + factors]``."""

    def __init__(self) -> None:
        super().__init__()
        channels = ((3, 32, 5, 2), (32, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2), (128, 128, 3, 1))
        self.features = nn.Sequential(
            *(_convolution(*shape) for shape in channels), nn.MaxPool2d(2), nn.Flatten()
        )
        self.hidden = nn.Sequential(nn.Linear(128 * 4 * 4, 64), nn.ReLU())
        self.heads = nn.Linear(64, sum(SIZES) + len(FACTORS))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of four attributes, then the factors, side by side ``[B, D]``, of images ``[B, 3, h, w]`` from 0 to 1."""
        return self.heads(self.hidden(self.features(2 * images - 1)))


class AttributeReader:
    """A trained `ReaderNetwork` with images in and attributes out."""

    def __init__(self, network: ReaderNetwork, config: dict) -> None:
        self.network, self.config = network.eval(), config

    @torch.no_grad()
    def _outputs(self, images: Sequence[Image.Image]) -> tuple[Tensor, ...]:
        """Return the logits of each attribute, and the factors; images of any size and mode are made 64 x 64 RGB."""
        pieces = [self.network(to_tensor(images[i : i + _BATCH])) for i in range(0, len(images), _BATCH)]
        outputs = torch.cat(pieces) if pieces else torch.empty(0, sum(SIZES) + len(FACTORS))
        return outputs.split((*SIZES, len(FACTORS)), dim=1)

    def probabilities(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Return one float32 ``[n, SIZES[a]]`` per attribute."""
        return [part.softmax(dim=1).numpy() for part in self._outputs(images)[:-1]]

    def look(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `read` and what `factors` say of the images, which are looked at once for both."""
        *logits, factors = self._outputs(images)
        attributes = np.stack([part.softmax(dim=1).numpy().argmax(axis=1) for part in logits], axis=1)
        return attributes, factors.clamp(-1, 1).numpy().astype(np.float64)

    def read(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the most probable motif, colour, ground and pattern of each image, int64 ``[n, 4]``."""
        return self.look(images)[0]

    def factors(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return the factors of each image, float64 ``[n, 7]`` in [-1, 1]: how strongly each is drawn."""
        return self.look(images)[1]

    def save(self, folder: Path) -> None:
        """Write half-precision weights and ``config.json`` to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.network.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        text = json.dumps({**_vocabulary(), **self.config}, indent=2)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> AttributeReader:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no reader, or one of another vocabulary.
        """
        if not (folder / "config.json").exists():
            raise UserError(
                str(folder), found="no config.json", expected="an attribute reader",
                todo="Train one with experiments/demo_models/train_reader.py.",
            )  # fmt: skip
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if {key: config.pop(key, None) for key in _vocabulary()} != _vocabulary():
            raise UserError(
                str(folder),
                found="another vocabulary",
                expected=f"attributes of sizes {SIZES} and the factors {', '.join(FACTORS)}",
            )
        network = ReaderNetwork()
        state = load_file(folder / "model.safetensors")
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        return cls(network, config)


def _vocabulary() -> dict[str, Any]:
    return {"attributes": dict(zip(NAMES, SIZES, strict=True)), "factors": list(FACTORS)}


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Return images as float32 ``[n, 3, 64, 64]`` in [0, 1]."""
    resized = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    return (
        torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2).float() / 255
    )


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
