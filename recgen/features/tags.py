"""Tags of items (I-AM-G eqs. 2-4): the question to a model that sees the image, and the union of an item's tags."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recgen.data.images import read_image
from recgen.data.shards import read_file
from recgen.features.captioner import Captioner
from recgen.features.completion import Answerer, Keep

_BLOCK = 64  # images of which a kill can cost the model's answers
_SENT = 768  # the longer side of images that go to a service


def union(*lists: Sequence[str]) -> list[str]:
    """Return eq. 4: every tag of some lists once, in the order of first appearance.

    >>> union(["skull", "red"], ["horror", "skull"])
    ['skull', 'red', 'horror']
    """
    return list(dict.fromkeys(tag for tags in lists for tag in tags))


def image_key(question: str, path: Path) -> str:
    """Return what the answer about an image is kept under: the question, and the image by its contents."""
    return f"{question}\n[image {image_digest(path)}]"


def image_digest(path: Path) -> str:
    """Return what identifies an image by its contents."""
    return hashlib.sha256(read_file(path)).hexdigest()


def image_message(question: str, path: Path) -> list[dict[str, Any]]:
    """Return a chat message's content in OpenAI's form: the question and the image."""
    return [{"type": "text", "text": question}, image_part(path)]


def image_part(path: Path) -> dict[str, Any]:
    """Return the part of a chat message that shows an image, as a JPEG in a data URL; a large one is scaled down."""
    image, buffer = read_image(path), io.BytesIO()
    image.thumbnail((_SENT, _SENT))
    image.save(buffer, format="JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def by_captioner(spec: str, device: str, question: str, files: Mapping[str, Path], where: str) -> Answerer:
    """Return what answers a question about images with an image-to-text model, loaded when it is first asked.

    Parameters
    ----------
    spec, device, where
        See `recgen.features.captioner.Captioner`.
    question
        The question.
    files
        The image behind each key; see `image_key`.
    """

    def answer(keys: Sequence[str], keep: Keep) -> None:
        model = Captioner(spec, device, where)
        for start in range(0, len(keys), _BLOCK):
            block = keys[start : start + _BLOCK]
            keep(block, model.describe([files[key] for key in block], question))

    return answer
