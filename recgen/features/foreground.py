"""Foregrounds of the images (I-AM-G section 4.3): the thing shown, on white, as an embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from recgen.core.errors import UserError, brief
from recgen.data.images import read_image

Cutter = Callable[[Image.Image], Image.Image]
"""From an RGB image to its foreground's mask: mode L, the image's size, 255 on the foreground."""


class ImageEncoder(Protocol):
    """What is needed of an encoder: raw image embeddings, float32 ``[n, D]``, of RGB images."""

    def images(self, images: Sequence[Image.Image], /) -> np.ndarray: ...


_AT_ONCE = 64
_EDGE = 160  # the longer side at which a ground is looked for: finer, noise and threads count as things
_RIM = 0.04  # of the shorter side: how wide the edge is whose colours are the ground's
_COLOURS = 6  # of the rim at most: two shades of a pattern, shadows, a corner of the thing
_RARE = 0.12  # share of the rim under which a colour is not the ground's
_LEAST, _MOST = 14.0, 30.0  # distances in colour, of 255 a channel, between which thing and ground part
_SMALL = 0.1  # parts of less than this share of the largest are specks
_TINY, _HUGE = 0.04, 0.97  # shares of the image beyond which what was found is no foreground


def foregrounds(paths: Sequence[Path], cutter: Cutter, encoder: ImageEncoder) -> np.ndarray:
    """Return F_img(I*) of I-AM-G eq. 12 for image files: raw embeddings of their foregrounds, float32 ``[n, D]``.

    An image in which no foreground is found counts as all foreground.
    """
    blocks = (paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE))
    return np.concatenate(
        [encoder.images([cut_out(read_image(path), cutter) for path in block]) for block in blocks]
    )


def cut_out(image: Image.Image, cutter: Cutter) -> Image.Image:
    """Return I*, the foreground of an RGB image on white, of the same size; the image itself where it has none."""
    mask = cutter(image)
    share = np.asarray(mask, dtype=np.float64).mean() / 255
    if not _TINY <= share <= _HUGE:
        return image
    return Image.composite(image, Image.new("RGB", image.size, "white"), mask)


def plain_ground_mask(image: Image.Image) -> Image.Image:
    """Return the mask of what differs from the ground, where the ground has few colours and reaches the image's edge.

    The colours of the rim that are not rare are the ground's, two shades of a pattern too. What is far from all of them, how far
    being where the distances part into two (Otsu), is the thing; holes in it and what a pattern's colour cuts off inside its
    outline belong to it, and specks do not. Written for images of products on a plain or simply patterned ground; on a scene it
    finds little or everything.
    """
    scale = min(_EDGE / max(image.size), 1.0)
    width, height = (max(round(side * scale), 1) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.float64)
    distance = _distance(small, _ground_colours(small))
    thing = _solid(distance > _threshold(distance))
    mask = Image.fromarray((thing * 255).astype(np.uint8))
    return mask if mask.size == image.size else mask.resize(image.size, Image.Resampling.BILINEAR)


def _ground_colours(pixels: np.ndarray) -> np.ndarray:
    """Return the frequent colours of the rim, float64 ``[n, 3]``, at least one."""
    width = max(round(_RIM * min(pixels.shape[:2])), 1)
    inner = np.zeros(pixels.shape[:2], dtype=bool)
    inner[width:-width, width:-width] = True
    rim = pixels[~inner]
    strip = Image.fromarray(rim.round().astype(np.uint8)[None]).quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    which = np.asarray(strip)[0]
    counts = np.bincount(which, minlength=which.max() + 1)
    frequent = [n for n, count in enumerate(counts) if count >= _RARE * len(which)] or [int(counts.argmax())]
    return np.stack([np.median(rim[which == n], axis=0) for n in frequent])


def _distance(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest of `colours` or of the mixtures of two that an edge between them shows."""
    found = [np.linalg.norm(pixels - colour, axis=-1) for colour in colours]
    for i, start in enumerate(colours):
        for end in colours[i + 1 :]:
            way = end - start
            along = ((pixels - start) @ way / max(way @ way, 1e-9)).clip(0, 1)[..., None]
            found.append(np.linalg.norm(pixels - start - along * way, axis=-1))
    return np.min(found, axis=0)


def _threshold(distance: np.ndarray) -> float:
    """Return the distance that parts the pixels into two classes of the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(distance, bins=128, range=(0, max(distance.max(), 1.0)))
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * middles).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(np.clip(edges[1:][np.nan_to_num(between).argmax()], _LEAST, _MOST))


def _solid(thing: np.ndarray) -> np.ndarray:
    """Close small gaps, fill holes and drop specks."""
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(thing, 2)))[2:-2, 2:-2]
    labels, count = ndimage.label(solid)
    if not count:
        return solid
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.isin(labels, np.flatnonzero(sizes >= _SMALL * sizes.max()))


def _plain_ground() -> Cutter:
    return plain_ground_mask


def _isnet() -> Cutter:
    """Return DIS's IS-Net as rembg runs it; its weights are fetched by rembg when they are first used."""
    try:
        import rembg
    except ImportError as error:
        raise UserError(
            "recgen.foreground",
            found="'isnet' without the package rembg",
            expected="rembg, or plain-ground",
            todo="pip install -c constraints.txt 'recgen[foreground]', or set recgen.foreground: plain-ground.",
        ) from error
    session: Any = _opened(rembg)
    return lambda image: rembg.remove(image, session=session, only_mask=True)


def _opened(rembg: Any) -> Any:
    try:
        return rembg.new_session("isnet-general-use")
    except (
        Exception
    ) as error:  # rembg, its downloader and onnxruntime raise many kinds; each means that it cannot be had
        raise UserError(
            "recgen.foreground",
            found=f"'isnet', whose weights cannot be loaded ({brief(error)})",
            expected="isnet-general-use.onnx in the folder U2NET_HOME, or a network to fetch it",
            todo="Fetch it once on a machine with a network, or set recgen.foreground: plain-ground.",
        ) from error


CUTTERS: dict[str, Callable[[], Cutter]] = {"plain-ground": _plain_ground, "isnet": _isnet}
