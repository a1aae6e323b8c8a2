"""Train the demo models' tokenizer: CLIP's own format (lower-case byte-level BPE), a vocabulary of about a thousand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from corpus import draw_attributes, film, sentence, words
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CONTEXT = 32
PIECES = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [sentence(draw_attributes(rng), rng) for _ in range(4000)] + [
        film(rng)[1].text(rng) for _ in range(4000)
    ]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(lines + words() * 20, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    pieces += [
        byte + "</w>" for byte in alphabet if byte + "</w>" not in pieces
    ]  # so that no text is unknown
    pieces += ["<|startoftext|>", "<|endoftext|>"]  # last, as in CLIP: its text tower pools at the highest id
    (folder / "vocab.json").write_text(
        json.dumps({piece: i for i, piece in enumerate(pieces)}, ensure_ascii=False)
    )
    write_clip_tokenizer(folder)


def write_clip_tokenizer(folder: Path) -> None:
    """Load the vocabulary as transformers' CLIPTokenizer and write its complete folder."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"),
        model_max_length=CONTEXT, pad_token="<|endoftext|>",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
