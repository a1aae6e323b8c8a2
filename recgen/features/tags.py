"""Tags of items (I-AM-G eqs. 2-4): of the image by a tagger or a model that sees it, of the text by a language model."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgen.assets import asset_folder
from recgen.core.io import identity, write_parquet
from recgen.core.progress import show
from recgen.data.images import read_image
from recgen.features.captions import Captioner, best_phrases
from recgen.features.item_keywords import CACHE, answered, ask, clean
from recgen.features.prompts import image_tags_prompt, text_tags_prompt
from recgen.features.vocabulary import read_vocabulary, vocabulary_file

if TYPE_CHECKING:
    from recgen.features.endpoint import CompletionCache
    from recgen.pipeline.context import RunContext

logger = logging.getLogger("recgen")

_BLOCK = 64  # images of which a kill can cost the model's answers
_SENT = 768  # the longer side of images that go to a service


def compute(run: RunContext) -> list[Path]:
    """Tag every item that has an image or a text, and write features/tags.parquet.

    Its columns are item_id, image and text, the tags of each (eqs. 2 and 3), and tags, their union (eq. 4) in that order.
    """
    import pandas as pd

    images, texts = _of_images(run), _of_texts(run)
    ids = [token for token in run.items["item_id"] if token in images or token in texts]
    rows = [(token, images.get(token, []), texts.get(token, [])) for token in ids]
    table = pd.DataFrame(rows, columns=["item_id", "image", "text"])
    table["tags"] = [union(seen, told) for _, seen, told in rows]
    logger.info("  tags: %d of %d items have some", sum(map(bool, table["tags"])), len(run.items))
    path = run.folder / "features/tags.parquet"
    write_parquet(path, table)
    return [path]


def union(*lists: Sequence[str]) -> list[str]:
    """Return eq. 4: every tag of some lists once, in the order of first appearance.

    >>> union(["skull", "red"], ["horror", "skull"])
    ['skull', 'red', 'horror']
    """
    return list(dict.fromkeys(tag for tags in lists for tag in tags))


def _of_texts(run: RunContext) -> dict[str, list[str]]:
    """Return eq. 3, the tags of each item's text, by item."""
    settings, items = run.settings.tags, run.items
    prompts = {
        token: text_tags_prompt(settings.domain, text, settings.n)
        for token, text in zip(items["item_id"], items["text"], strict=True)
        if text
    }
    answers = answered(run, list(dict.fromkeys(prompts.values())), settings.n, settings.endpoint, "tags")
    return {token: clean(answers[prompt], settings.n) for token, prompt in prompts.items()}


def _of_images(run: RunContext) -> dict[str, list[str]]:
    """Return eq. 2, the tags of each item's image, by item."""
    settings = run.settings.tags
    ids, images = run.features("image")
    if not isinstance(settings.image, str) or settings.image == "clip-tagger":
        vocabulary = read_vocabulary(vocabulary_file(settings.image, run.settings.encoder))
        groups = [
            best_phrases(images, group.phrases, group.prompts, run.encoder)
            for group in vocabulary.groups.values()
        ]
        return {
            token: union(tags)[: settings.n]
            for token, tags in zip(ids, zip(*groups, strict=True), strict=True)
        }
    found = run.items.set_index("item_id")["image"]
    question = image_tags_prompt(settings.domain, settings.n)
    keys = {token: _key(question, run.folder / found[token]) for token in ids}
    files = {key: run.folder / found[token] for token, key in keys.items()}
    answers = _seen(run, settings.image, question, files)
    return {token: clean(answers[key], settings.n) for token, key in keys.items()}


def _key(question: str, path: Path) -> str:
    """What an answer is kept under: the question, and the image by its contents."""
    return f"{question}\n[image {hashlib.sha256(path.read_bytes()).hexdigest()}]"


def _seen(run: RunContext, spec: str, question: str, files: dict[str, Path]) -> dict[str, str]:
    """Return the answer about each image, by key: kept ones from disk, the others from the service or the model."""
    from recgen.features.endpoint import CompletionCache

    settings = run.settings.tags
    endpoint = settings.endpoint if spec == "endpoint" else None
    model: list[Any] = (
        [spec, identity(asset_folder(spec))] if endpoint is None else [endpoint.url, endpoint.model, "images"]
    )
    file = None if endpoint is None else endpoint.cache
    answers = CompletionCache(run.folder / CACHE if file is None else Path(file), model)
    try:
        missing = [key for key in files if answers.get(key) is None]
        if missing and endpoint is not None:
            ask(endpoint, missing, settings.n, answers, "tags", lambda key: _message(question, files[key]))
        elif missing:
            _look(run, spec, question, {key: files[key] for key in missing}, answers)
        return {key: answers.get(key) or "" for key in files}
    finally:
        answers.close()


def _look(
    run: RunContext, spec: str, question: str, files: dict[str, Path], answers: CompletionCache
) -> None:
    model, keys = Captioner(spec, run.device, "recgen.tags.image"), list(files)
    for start in range(0, len(keys), _BLOCK):
        block = keys[start : start + _BLOCK]
        answers.put(block, model.describe([files[key] for key in block], question))
        show("features: tags", min(start + _BLOCK, len(keys)), len(keys))


def _message(question: str, path: Path) -> list[dict[str, Any]]:
    """Return a chat message's content in OpenAI's form: the question and the image, as a JPEG in a data URL."""
    image, buffer = read_image(path), io.BytesIO()
    image.thumbnail((_SENT, _SENT))
    image.save(buffer, format="JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
