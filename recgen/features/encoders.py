"""Image encoders, and CLIP models, which encode texts too: any OpenCLIP model, by name or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from recgen.assets import asset_folder
from recgen.core.batching import Batcher
from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError
from recgen.data.images import read_image
from recgen.features.loading import check_finite, loaded

prepare_torchvision()
import open_clip  # noqa: E402

T = TypeVar("T")
_READ_AHEAD = 2  # batches of decoded images waiting while the encoder works
_READERS = 4
_BATCH = 64  # images encoded together at first
OPEN_CLIP = "open_clip_config.json"
"""The file by which a folder is known as an open_clip model."""


class ImageEncoder(ABC):
    """Images in, embeddings out: what every encoder of images has.

    Parameters
    ----------
    model
        A torch module; it is put in evaluation mode, and no gradients of its weights are kept.
    name
        Its name in recipes and reports.
    device, dtype
        Where and in which type it calculates; its embeddings are float32 whatever the type.
    """

    def __init__(
        self, model: Any, name: str, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        self.name, self.device, self.dtype = name, device, dtype
        self.batcher = Batcher()

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width D of the embeddings."""

    @abstractmethod
    def prepared(self, image: Image.Image) -> torch.Tensor:
        """Return one RGB image as the network reads it, float32 ``[3, h, w]``."""

    @abstractmethod
    def encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return raw embeddings ``[B, D]`` of prepared images ``[B, 3, h, w]`` on the encoder's device."""

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return raw image embeddings, float32 ``[n, D]``, of RGB images."""

        def encode(some: Sequence[Image.Image]) -> np.ndarray:
            return self._encode(torch.stack([self.prepared(image) for image in some]))

        return self._rows(self.batcher.map("encoding images", images, _BATCH, encode))

    def files(self, paths: Sequence[Path], batch_size: int = _BATCH) -> np.ndarray:
        """Return raw image embeddings, float32 ``[n, D]``, of image files, decoding ahead of the encoder."""

        def load(chunk: list[Path]) -> torch.Tensor:
            return torch.stack([self.prepared(read_image(path)) for path in chunk])

        blocks = _ahead(load, _chunks(paths, batch_size))
        return self._rows(
            rows
            for block in blocks
            for rows in self.batcher.map("encoding images", block, len(block), self._encode)  # type: ignore[arg-type]
        )

    def _encode(self, pixels: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return self.encoded(pixels.to(self.device, self.dtype)).float().cpu().numpy()

    def _rows(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        found = list(blocks)
        return np.concatenate(found) if found else np.empty((0, self.dim), dtype=np.float32)


class Encoder(ImageEncoder):
    """A CLIP model: images and sentences in, embeddings of one space out.

    Embeddings are *raw*: as the projection gives them, not scaled to length 1. IP-Adapter is trained on raw image
    embeddings; cosine similarities normalise for themselves.

    Parameters
    ----------
    model
        An open_clip model in evaluation mode.
    preprocess
        Its image transform.
    tokenizer
        Its tokenizer.
    name
        Its name in recipes and reports.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        name: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(model, name, device, dtype)
        self.preprocess, self.tokenizer = preprocess, tokenizer

    @property
    def dim(self) -> int:
        """Width D of the embeddings."""
        return int(self.model.text_projection.shape[-1])

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines of images and texts by before a softmax."""
        return float(self.model.logit_scale.exp())

    def prepared(self, image: Image.Image) -> torch.Tensor:
        """Return one RGB image as the model's own transform makes it, float32 ``[3, h, w]``."""
        return self.preprocess(image)

    def encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return raw image embeddings ``[B, D]``."""
        return self.model.encode_image(pixels)

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return raw image embeddings ``[B, D]`` of square images, pixels ``[B, 3, h, w]`` from 0 to 1 that gradients reach.

        The images are scaled by anti-aliased bicubic interpolation, as `images` scales them; pixels are not rounded to 8 bits.
        """
        settings = open_clip.get_model_preprocess_cfg(self.model)
        edge = settings["size"] if isinstance(settings["size"], int) else settings["size"][0]
        if pixels.shape[-1] != edge:
            pixels = torch.nn.functional.interpolate(pixels, (edge, edge), mode="bicubic", antialias=True)
        mean, std = (pixels.new_tensor(settings[name])[:, None, None] for name in ("mean", "std"))
        return self.model.encode_image(((pixels.to(self.device) - mean) / std).to(self.dtype)).float()

    @torch.inference_mode()
    def texts(self, sentences: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Return raw text embeddings, float32 ``[n, D]``; text beyond the model's context length is cut off."""

        def encode(some: Sequence[str]) -> np.ndarray:
            return self.model.encode_text(self.tokenizer(list(some)).to(self.device)).float().cpu().numpy()

        return self._rows(self.batcher.map("encoding texts", sentences, batch_size, encode))


def load_encoder(
    spec: str | dict[str, str],
    device: str = "cpu",
    key: str = "recgen.encoder",
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Load a CLIP model.

    Parameters
    ----------
    spec
        ``{"model": "ViT-H-14", "pretrained": "laion2b_s32b_b79k"}`` as in `open_clip.create_model_and_transforms`; or the
        folder of an open_clip model, or the name of a shipped one such as ``"demo-clip"``.
    key
        Where `spec` was read from, for messages.
    device, dtype
        See `ImageEncoder`.
    """
    if isinstance(spec, str):
        spec = {"model": f"local-dir:{_folder(spec, key)}"}
    model, pretrained = spec.get("model", ""), spec.get("pretrained")

    def load() -> tuple[Any, Any, Any]:
        network, _, preprocess = open_clip.create_model_and_transforms(
            model, pretrained=pretrained, precision="fp32", weights_only=True
        )
        check_finite(network)
        return network, preprocess, open_clip.get_tokenizer(model)

    network, preprocess, tokenizer = loaded(
        load,
        key,
        f"{model!r} with weights {pretrained!r}",
        "an OpenCLIP model and weights that are here or can be downloaded",
        f"Fetch the weights once on a machine with a network, or set {key} to a local open_clip folder or demo-clip.",
    )
    name = (
        Path(model.removeprefix("local-dir:")).name
        if model.startswith("local-dir:")
        else f"{model}/{pretrained}"
    )
    return Encoder(network, preprocess, tokenizer, name, device, dtype)


def is_open_clip(name: str) -> bool:
    """Return whether a name is that of a folder of an open_clip model, shipped or not."""
    return (asset_folder(name) / OPEN_CLIP).is_file()


def _folder(name: str, key: str) -> Path:
    if not is_open_clip(name):
        raise UserError(
            key,
            found=f"{name!r}",
            expected="demo-clip, a folder with open_clip_config.json, or {model: , pretrained: }",
        )
    return asset_folder(name)


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _ahead(load, chunks: Iterable[list[Path]]) -> Iterator[torch.Tensor]:
    """Load chunks on threads, a few ahead of the consumer, in order."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting = []
        for chunk in chunks:
            waiting.append(pool.submit(load, chunk))
            if len(waiting) > _READ_AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
