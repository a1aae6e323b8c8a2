"""The features stage: every item's image and text through the run's encoder, and what generators ask for beside them.

Each function is a task: it reads the run's tables, calls `recgen.features`, and writes under the run's ``features``. What takes
long is written shard by shard, or answer by answer, so that a kill costs little.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recgen.assets import asset_folder
from recgen.core.errors import UserError
from recgen.core.io import identity, read_features, write_features, write_json, write_parquet
from recgen.core.progress import show
from recgen.data.at_url import image_file
from recgen.features.completion import (
    CACHE,
    Answerer,
    CompletionCache,
    by_model,
    by_service,
    complete_missing,
)
from recgen.features.given import given_embeddings
from recgen.features.item_keywords import TOKENS_PER_KEYWORD, clean
from recgen.features.prompts import image_tags_prompt, item_prompt, text_tags_prompt
from recgen.features.tags import by_captioner, image_key, image_message, union
from recgen.features.vocabulary import read_vocabulary, vocabulary_file
from recgen.pipeline.context import of_judge

if TYPE_CHECKING:
    from recgen.config.schema import OpenClip
    from recgen.config.text_models import Endpoint
    from recgen.pipeline.context import RunContext

logger = logging.getLogger("recgen")

# images or texts of which a kill can cost the embeddings, captions, foregrounds
_EMBEDDED, _CAPTIONED, _CUT = 4_096, 256, 512

T = TypeVar("T")


def embed(run: RunContext) -> list[Path]:
    """Write features/{image,text}.safetensors and their ids, and ranker_text where the ranking models read texts by themselves.

    Embeddings are raw, float32 ``[n, D]``; items without an image or without a text have no row.
    """
    items = run.items
    seen, told = items[items["image"].notna()], items[items["text"] != ""]
    folder = run.folder / "features"

    def encoded(kind: str, values: Sequence[T], encode: Callable[[Sequence[T]], np.ndarray]) -> np.ndarray:
        pattern = folder / f"shards/{kind}.{{}}.safetensors"
        return in_shards(values, encode, _EMBEDDED, pattern, f"{kind}s", run.models.encoder.dim)

    def of(
        kind: str, table: Any, values: Callable[[], Sequence[T]], encode: Callable[[Sequence[T]], np.ndarray]
    ) -> None:
        ids, given = table["item_id"].tolist(), run.inputs.given(kind)
        if given is None:
            rows = encoded(kind, values(), encode)
        else:
            where = f"{run.config.source}: recgen.given_features.{kind}"
            rows = given_embeddings(given, ids, run.models.encoder.dim, where)
        write_features(folder / f"{kind}.safetensors", rows, ids)

    of(
        "image",
        seen,
        lambda: list(_files(run, seen["item_id"]).values()),
        lambda paths: run.models.encoder.files(paths),
    )
    of("text", told, lambda: told["text"].tolist(), lambda sentences: run.models.encoder.texts(sentences))
    kinds: tuple[str, ...] = ("image", "text")
    if run.settings.ranker.text_encoder is not None:
        from recgen.features.wordllama import WordLlama

        vectors = WordLlama("recgen.ranker.text_encoder").texts(told["text"].tolist())
        write_features(folder / "ranker_text.safetensors", vectors, told["item_id"].tolist())
        kinds += ("ranker_text",)
    shutil.rmtree(folder / "shards", ignore_errors=True)
    return [folder / f"{kind}.{ending}" for kind in kinds for ending in ("safetensors", "ids.txt")]


def embed_for_judge(run: RunContext) -> list[Path]:
    """Write the items' raw image embeddings by each judge's own encoder, and their ids; see `of_judge` for their names."""
    ids, own = run.features("image")
    paths, outputs = list(_files(run, ids).values()), []
    for member, spec in enumerate(run.settings.ranker.judge_encoders):
        file = run.folder / f"features/{of_judge('image', member)}.safetensors"
        if _embeds_as_the_run_did(run, spec):
            rows = own
        else:
            encoder = run.models.judge_encoders[member]
            pattern = run.folder / f"features/judge_shards/{member}.{{}}.safetensors"
            rows = in_shards(paths, encoder.files, _EMBEDDED, pattern, "images for the judge", encoder.dim)
        write_features(file, rows, ids)
        outputs += [file, file.with_suffix(".ids.txt")]
    shutil.rmtree(run.folder / "features/judge_shards", ignore_errors=True)
    return outputs


def _embeds_as_the_run_did(run: RunContext, judge: str | OpenClip) -> bool:
    """Return whether a judge's encoder, which is in float32, is the one that `embed` has put the images through."""
    from recgen.core.device import encoder_type

    s = run.settings
    precise = encoder_type(s.precision, run.models.device) == encoder_type("float32", run.models.device)
    return judge == s.encoder and precise and s.given_features.image is None


def in_shards(
    values: Sequence[T],
    encode: Callable[[Sequence[T]], np.ndarray],
    size: int,
    pattern: Path,
    what: str,
    width: int,
) -> np.ndarray:
    """Encode shard by shard into files named by `pattern` and the first row, skipping those an interrupted run has left."""
    rows = [np.empty((0, width), dtype=np.float32)]
    for start in range(0, len(values), size):
        path = pattern.with_name(pattern.name.format(start))
        if not path.exists():
            write_features(path, encode(values[start : start + size]))
            show(f"features: {what}", min(start + size, len(values)), len(values))
        rows.append(read_features(path))
    return np.concatenate(rows)


def caption(run: RunContext) -> list[Path]:
    """Caption every image.

    Writes features/captions.parquet (item_id, caption) and features/caption.safetensors with its ids: raw CLIP text embeddings
    of the captions, E_sem of RAGAR eq. 2. Items without an image have no row.
    """
    import pandas as pd

    from recgen.features.tagger import tag

    ids, images = run.features("image")
    spec = run.settings.captioner
    if isinstance(spec, str) and spec != "clip-tagger":
        captions = _described(run, spec, ids)
    else:
        vocabulary = read_vocabulary(vocabulary_file(spec, run.settings.encoder))
        captions = tag(images, vocabulary, run.models.encoder)
    folder = run.folder / "features"
    rows = {
        caption: row for row, caption in enumerate(dict.fromkeys(captions))
    }  # equal ones are encoded once
    embeddings = run.models.encoder.texts(list(rows))[[rows[caption] for caption in captions]]
    write_features(folder / "caption.safetensors", embeddings, ids)
    write_parquet(folder / "captions.parquet", pd.DataFrame({"item_id": ids, "caption": captions}))
    return [folder / name for name in ("captions.parquet", "caption.safetensors", "caption.ids.txt")]


def _described(run: RunContext, spec: str, ids: Sequence[str]) -> list[str]:
    """Caption with an image-to-text model, shard by shard; the shards an interrupted run has left are not made again."""
    from recgen.features.captioner import Captioner

    paths = list(_files(run, ids).values())
    captioner: Captioner | None = None
    captions: list[str] = []
    for start in range(0, len(paths), _CAPTIONED):
        shard = run.folder / f"features/captions/{start:07d}.json"
        if not shard.exists():
            captioner = captioner or Captioner(spec, run.models.device)
            write_json(shard, captioner.describe(paths[start : start + _CAPTIONED]))
            show("features: captions", min(start + _CAPTIONED, len(paths)), len(paths))
        captions += json.loads(shard.read_text(encoding="utf-8"))
    return captions


def _files(run: RunContext, ids: Iterable[str]) -> dict[str, Path]:
    """Return the image file of each of some items, which have one."""
    found = run.items.set_index("item_id")["image"]
    return {token: image_file(run.folder, found[token]) for token in ids}


def extract_keywords(run: RunContext) -> list[Path]:
    """Find the keywords of every item that has a caption or a text: RAGAR eq. 6, w_i = LLM_k(p_k(cap_i, txt_i)).

    Writes features/keywords.parquet (item_id, keywords). Equal items are asked about once.
    """
    import pandas as pd

    n, items = run.settings.keywords.n, run.items
    table = pd.read_parquet(run.folder / "features/captions.parquet")
    captions = dict(zip(table["item_id"], table["caption"], strict=True))
    prompts = {
        token: item_prompt(captions.get(token, ""), text, n)
        for token, text in zip(items["item_id"], items["text"], strict=True)
        if text or captions.get(token)
    }
    answers = _answers(run, prompts.values(), n, run.settings.keywords.endpoint, "keywords")
    words = [clean(answers[prompt], n) for prompt in prompts.values()]
    logger.info("  keywords: %d of %d items have some", sum(map(bool, words)), len(items))
    path = run.folder / "features/keywords.parquet"
    write_parquet(path, pd.DataFrame({"item_id": list(prompts), "keywords": words}))
    return [path]


def _answers(run: RunContext, prompts: Any, n: int, endpoint: Endpoint | None, what: str) -> dict[str, str]:
    """Return the answer of at most `n` words to each prompt, by the endpoint or else the run's language model."""
    llm, max_tokens = run.settings.llm, TOKENS_PER_KEYWORD * n
    if endpoint is not None:
        model: list[Any] = [endpoint.public_url, endpoint.model]
        answer = by_service(endpoint, max_tokens, f"recgen.{what}.endpoint")
    elif llm is not None and run.models.language_model is not None:
        model, answer = [llm, identity(asset_folder(llm))], by_model(run.models.language_model, max_tokens)
    else:
        raise UserError(
            f"{run.config.source}: recgen.llm",
            found=f"null, and no recgen.{what}.endpoint",
            expected=f"one of them: a generator of this run asks for {what} of items",
        )
    cache = CompletionCache(_cache_file(run, endpoint), [model, max_tokens])
    return complete_missing(list(dict.fromkeys(prompts)), cache, answer, what)


def _cache_file(run: RunContext, endpoint: Endpoint | None) -> Path:
    own = None if endpoint is None else endpoint.cache
    return run.folder / CACHE if own is None else Path(own)


def tag_items(run: RunContext) -> list[Path]:
    """Tag every item that has an image or a text, and write features/tags.parquet.

    Its columns are item_id, image and text, the tags of each (I-AM-G eqs. 2 and 3), and tags, their union (eq. 4) in that order.
    """
    import pandas as pd

    images, texts = _image_tags(run), _text_tags(run)
    ids = [token for token in run.items["item_id"] if token in images or token in texts]
    rows = [(token, images.get(token, []), texts.get(token, [])) for token in ids]
    table = pd.DataFrame(rows, columns=["item_id", "image", "text"])
    table["tags"] = [union(seen, told) for _, seen, told in rows]
    logger.info("  tags: %d of %d items have some", sum(map(bool, table["tags"])), len(run.items))
    path = run.folder / "features/tags.parquet"
    write_parquet(path, table)
    return [path]


def _text_tags(run: RunContext) -> dict[str, list[str]]:
    """Return eq. 3, the tags of each item's text, by item."""
    settings, items = run.settings.tags, run.items
    prompts = {
        token: text_tags_prompt(settings.domain, text, settings.n)
        for token, text in zip(items["item_id"], items["text"], strict=True)
        if text
    }
    answers = _answers(run, prompts.values(), settings.n, settings.endpoint, "tags")
    return {token: clean(answers[prompt], settings.n) for token, prompt in prompts.items()}


def _image_tags(run: RunContext) -> dict[str, list[str]]:
    """Return eq. 2, the tags of each item's image, by item."""
    from recgen.features.tagger import tag_groups

    settings = run.settings.tags
    ids, images = run.features("image")
    if not isinstance(settings.image, str) or settings.image == "clip-tagger":
        vocabulary = read_vocabulary(vocabulary_file(settings.image, run.settings.encoder))
        groups = tag_groups(images, vocabulary, run.models.encoder)
        return {token: union(tags)[: settings.n] for token, tags in zip(ids, groups, strict=True)}
    paths = _files(run, ids)
    question = image_tags_prompt(settings.domain, settings.n)
    keys = {token: image_key(question, path) for token, path in paths.items()}
    answers = _image_answers(
        run, settings.image, question, {key: paths[token] for token, key in keys.items()}
    )
    return {token: clean(answers[key], settings.n) for token, key in keys.items()}


def _image_answers(run: RunContext, spec: str, question: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the answer about each image, by key, from the service or the image-to-text model `spec`."""
    settings = run.settings.tags
    endpoint = settings.endpoint if spec == "endpoint" else None
    if endpoint is None:
        model: list[Any] = [spec, identity(asset_folder(spec))]
        answer: Answerer = by_captioner(spec, run.models.device, question, files, "recgen.tags.image")
    else:
        model = [endpoint.public_url, endpoint.model, "images"]
        answer = by_service(
            endpoint,
            TOKENS_PER_KEYWORD * settings.n,
            "recgen.tags.endpoint",
            lambda key: image_message(question, files[key]),
        )
    cache = CompletionCache(_cache_file(run, endpoint), model)
    return complete_missing(list(files), cache, answer, "tags")


def cut_foregrounds(run: RunContext) -> list[Path]:
    """Cut out and encode every image's foreground, and write features/foreground.safetensors with its ids.

    The embeddings are F_img(I*) of I-AM-G eq. 12. Items without an image have no row.
    """
    from recgen.features.foreground import CUTTERS, Cutter, foregrounds

    ids, _ = run.features("image")
    cutter: Cutter | None = None

    def encode(paths: Sequence[Path]) -> np.ndarray:
        nonlocal cutter
        cutter = cutter or CUTTERS[run.settings.foreground]()
        return foregrounds(paths, cutter, run.models.encoder)

    shards = run.folder / "features/foregrounds"
    paths = list(_files(run, ids).values())
    rows = in_shards(
        paths, encode, _CUT, shards / "{:07d}.safetensors", "foregrounds", run.models.encoder.dim
    )
    file = run.folder / "features/foreground.safetensors"
    write_features(file, rows, ids)
    shutil.rmtree(shards, ignore_errors=True)
    return [file, file.with_suffix(".ids.txt")]
