"""Captions of the images: by the CLIP tagger, from embeddings that are there already, or by an image-to-text model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError, brief
from recgen.core.io import write_features, write_json, write_parquet
from recgen.core.progress import show
from recgen.data.images import read_image
from recgen.features.vocabulary import Vocabulary, read_vocabulary, vocabulary_file

if TYPE_CHECKING:
    from recgen.features.encoders import Encoder
    from recgen.pipeline.context import RunContext

SHARD = 256  # images of which a kill can cost the captions
_BATCH = 16
_LONGEST = 40  # tokens of a caption
_ANSWER = 64  # tokens of an answer to a question
_ROWS = 16_384  # embeddings compared with the phrases at once


def compute(run: RunContext) -> list[Path]:
    """Caption every image of the run.

    Writes features/captions.parquet (item_id, caption) and features/caption.safetensors with its ids: raw CLIP text embeddings
    of the captions, E_sem of RAGAR eq. 2. Items without an image have no row.
    """
    import pandas as pd

    ids, images = run.features("image")
    spec = run.settings.captioner
    if isinstance(spec, str) and spec != "clip-tagger":
        captions = _by_model(run, spec, ids)
    else:
        vocabulary = read_vocabulary(vocabulary_file(spec, run.settings.encoder))
        captions = tag(images, vocabulary, run.encoder)
    folder = run.folder / "features"
    write_features(folder / "caption.safetensors", _embedded(captions, run.encoder), ids)
    write_parquet(folder / "captions.parquet", pd.DataFrame({"item_id": ids, "caption": captions}))
    return [folder / name for name in ("captions.parquet", "caption.safetensors", "caption.ids.txt")]


def _embedded(captions: Sequence[str], encoder: Encoder) -> np.ndarray:
    """Return the raw text embedding of each caption, float32 ``[n, D]``; equal captions are encoded once."""
    rows = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    return encoder.texts(list(rows))[[rows[caption] for caption in captions]]


def tag(images: np.ndarray, vocabulary: Vocabulary, encoder: Encoder) -> list[str]:
    """Return a caption per image: in each group the phrase closest to it by cosine, joined by the vocabulary's sentence.

    Parameters
    ----------
    images
        CLIP image embeddings ``[n, D]`` of the same encoder.
    """
    chosen = {
        name: best_phrases(images, group.phrases, group.prompts, encoder)
        for name, group in vocabulary.groups.items()
    }
    return [
        vocabulary.caption.format(**{name: found[row] for name, found in chosen.items()})
        for row in range(len(images))
    ]


def best_phrases(
    images: np.ndarray, phrases: Sequence[str], prompts: Sequence[str], encoder: Encoder
) -> list[str]:
    """Return the phrase closest to each image: cosine of its embedding and the mean direction of the phrase's prompts."""
    sentences = [prompt.replace("{}", phrase) for phrase in phrases for prompt in prompts]
    texts = _unit(encoder.texts(sentences)).reshape(len(phrases), len(prompts), -1)
    directions = _unit(texts.mean(axis=1))
    found: list[str] = []
    for start in range(
        0, len(images), _ROWS
    ):  # the length of an image's embedding does not change which phrase is closest
        found += [phrases[best] for best in (images[start : start + _ROWS] @ directions.T).argmax(axis=1)]
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _by_model(run: RunContext, spec: str, ids: Sequence[str]) -> list[str]:
    """Caption with an image-to-text model, shard by shard; the shards an interrupted run has left are not made again."""
    found = run.items.set_index("item_id")["image"]
    paths = [run.folder / found[token] for token in ids]
    captioner: Captioner | None = None
    captions: list[str] = []
    for start in range(0, len(paths), SHARD):
        shard = run.folder / f"features/captions/{start:07d}.json"
        if not shard.exists():
            captioner = captioner or Captioner(spec, run.device)
            write_json(shard, captioner.describe(paths[start : start + SHARD]))
            show("features: captions", min(start + SHARD, len(paths)), len(paths))
        captions += json.loads(shard.read_text(encoding="utf-8"))
    return captions


class Captioner:
    """An image-to-text model of transformers, such as BLIP-2 or, asked a question, LLaVA.

    Parameters
    ----------
    spec
        Its folder, or an id that transformers can fetch.
    device
        Where it runs: float32 on the CPU, elsewhere in the type its weights are stored in.
    key
        Where `spec` was read from, for messages.

    Raises
    ------
    UserError
        When it cannot be had or is no image-to-text model.
    """

    def __init__(self, spec: str, device: str = "cpu", key: str = "recgen.captioner") -> None:
        prepare_torchvision()
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        dtype: Any = torch.float32 if device == "cpu" else "auto"
        try:
            self.processor = AutoProcessor.from_pretrained(asset_folder(spec), trust_remote_code=False)
            model = AutoModelForImageTextToText.from_pretrained(
                asset_folder(spec), dtype=dtype, trust_remote_code=False
            )
        except (
            Exception
        ) as error:  # transformers and the hub raise many kinds; each means that it cannot be had
            raise UserError(
                key,
                found=f"{spec!r}, which cannot be loaded ({brief(error)})",
                expected="clip-tagger, {tagger: FILE}, or an image-to-text model that is here or can be downloaded",
                todo=f"Fetch it once on a machine with a network, or set {key} to its folder or to clip-tagger.",
            ) from error
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device

    def describe(self, paths: Sequence[Path], question: str | None = None) -> list[str]:
        """Return one caption per image file, the likeliest words, or what the model answers to a question about it."""
        import torch

        captions: list[str] = []
        for start in range(0, len(paths), _BATCH):
            images = [read_image(path) for path in paths[start : start + _BATCH]]
            inputs = self._inputs(images, question).to(self.device, self.model.dtype)
            longest = _LONGEST if question is None else _ANSWER
            with torch.inference_mode():
                tokens = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False, num_beams=1)
            if question is not None and not self.model.config.is_encoder_decoder and "input_ids" in inputs:
                tokens = tokens[:, inputs["input_ids"].shape[1] :]  # such a model repeats the question first
            captions += [
                " ".join(text.split())
                for text in self.processor.batch_decode(tokens, skip_special_tokens=True)
            ]
        return captions

    def _inputs(self, images: Sequence[Image.Image], question: str | None) -> Any:
        """Return the processor's tensors; a chat model gets image and question as its user's turn."""
        if question is None:
            return self.processor(images=list(images), return_tensors="pt")
        if getattr(self.processor, "chat_template", None) is None:
            return self.processor(images=list(images), text=[question] * len(images), return_tensors="pt")
        turn = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True
        )
        return self.processor(images=list(images), text=[prompt] * len(images), return_tensors="pt")
