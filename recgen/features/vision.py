"""Encoders of images alone: any image model of transformers, such as DINOv2, or the image tower of a CLIP model."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision
from recgen.features import efficientnet
from recgen.features.encoders import ImageEncoder, is_open_clip, load_encoder
from recgen.features.loading import loaded, pretrained


class VisionEncoder(ImageEncoder):
    """An image model of transformers; an embedding is its pooled output or, of a model without one, its first token.

    Parameters
    ----------
    model
        What ``AutoModel`` makes of the folder.
    processor
        What ``AutoImageProcessor`` makes of it.
    name
        Its name in reports.
    """

    def __init__(self, model: Any, processor: Any, name: str, device: str = "cpu") -> None:
        super().__init__(model, name, device)
        self.processor = processor
        blank = self.prepared(Image.new("RGB", (64, 64)))[None].to(device)
        with torch.inference_mode():
            self._dim = int(self.encoded(blank).shape[1])

    @property
    def dim(self) -> int:
        """Width D of the embeddings."""
        return self._dim

    def prepared(self, image: Image.Image) -> torch.Tensor:
        """Return one RGB image as the model's own processor makes it, float32 ``[3, h, w]``."""
        return self.processor(image, return_tensors="pt")["pixel_values"][0]

    def encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return raw embeddings ``[B, D]``."""
        output = self.model(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        return output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


def load_image_encoder(spec: str | dict[str, str], device: str, key: str) -> ImageEncoder:
    """Load an encoder of images.

    Parameters
    ----------
    spec
        What `recgen.features.encoders.load_encoder` takes; or the folder or id of an image model of transformers, or the name of
        a shipped one such as ``"demo-resnet"``; or ``"efficientnet-lite0"``, whose weights come inside a package.
    key
        Where `spec` was read from, for messages.

    Raises
    ------
    UserError
        When there is no such model, or it is none of images.
    """
    if not isinstance(spec, str) or is_open_clip(spec):
        return load_encoder(spec, device, key)
    if spec == efficientnet.NAME:
        return efficientnet.load(device, key)
    prepare_torchvision()
    from transformers import AutoImageProcessor, AutoModel

    folder = asset_folder(spec)

    def load() -> VisionEncoder:
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil")
        model = pretrained(AutoModel, folder, dtype=torch.float32)
        return VisionEncoder(model, processor, spec, device)

    return loaded(
        load,
        key,
        repr(spec),
        "an open_clip model, or an image model of transformers that is here or can be downloaded",
        f"Fetch it once on a machine with a network, or set {key} to its folder, to demo-resnet, or to null.",
    )
