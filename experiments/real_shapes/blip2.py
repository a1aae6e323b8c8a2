"""Writes a BLIP-2 model of any size in the published format: random weights, and a tokenizer that knows forty words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recgen.core.compat import prepare_torchvision

prepare_torchvision()
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

Model = Callable[[type[Blip2ForConditionalGeneration], Blip2Config], Blip2ForConditionalGeneration]

PIECES = ("<pad>", "<s>", "</s>", "<unk>", "\n", *(f"word{n}" for n in range(40)))
"""What the tokenizer knows; the next number stands for an image."""


def write(
    folder: Path,
    vision: Mapping[str, Any],
    qformer: Mapping[str, Any],
    language: Mapping[str, Any],
    queries: int,
    model: Model = lambda kind, config: kind(config),
) -> None:
    """Write weights, configuration, tokenizer and image processor.

    Parameters
    ----------
    folder
        Where to.
    vision, qformer, language
        Shapes of the three networks, as `Blip2Config` takes them; the last is an OPT.
    queries
        Tokens that an image becomes.
    model
        Makes the model of its class and its configuration.
    """
    known = {piece: number for number, piece in enumerate(PIECES)}
    core = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    edge = vision["image_size"]
    images = BlipImageProcessor(size={"height": edge, "width": edge})
    Blip2Processor(images, words, num_query_tokens=queries).save_pretrained(folder)
    numbers = {"bos_token_id": known["<s>"], "eos_token_id": known["</s>"], "pad_token_id": known["<pad>"]}
    config = Blip2Config(
        vision_config=dict(vision),
        qformer_config=dict(qformer),
        text_config={"model_type": "opt", **numbers, **language},
        num_query_tokens=queries,
        image_token_index=len(PIECES),
    )
    model(Blip2ForConditionalGeneration, config).save_pretrained(folder)
