"""Train the demo language model (a small Llama): it reads descriptions of what a user liked and writes their keywords.

The task is real but small: the most frequent telling words of a list of sentences, most frequent first.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from corpus import GENRES, draw_attributes, film, sentence
from tokenizers import Tokenizer, decoders, processors

from recgen.compat import prepare_torchvision
from recgen.data.attributes import VOCABULARIES, Attributes

prepare_torchvision()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

TELLING = {word for words in VOCABULARIES for word in words} | set(GENRES)
TOP = 4
CONTEXT = 320


def new_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The demo vocabulary as a Llama-type tokenizer: begins with the start token, no end token added."""
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    start = "<|startoftext|>"
    core.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, core.token_to_id(start))]
    )
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=start,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )


def keywords(sentences: list[str]) -> list[str]:
    """The up to four most frequent telling words, ties by first appearance."""
    words = [
        w for s in sentences for w in s.lower().replace("'s", "").replace(",", "").split() if w in TELLING
    ]
    return [word for word, _ in Counter(words).most_common(TOP)]


def prompt(sentences: list[str]) -> str:
    """The text the model continues with keywords."""
    return f"{'; '.join(sentences)}. keywords:"


def draw_sentences(rng: np.random.Generator) -> list[str]:
    """What one made-up user liked: pictures with a leaning to one look, or films with a leaning to one genre."""
    count = int(rng.integers(3, 9))
    if rng.random() < 0.4:
        wanted = str(rng.choice(GENRES))
        films = [film(rng)[1] for _ in range(4 * count)]
        return sorted(films, key=lambda text: wanted not in text.lower())[:count]
    taste = draw_attributes(rng)
    rows = []
    for _ in range(count):
        other = draw_attributes(rng)
        look = Attributes(*(int(taste[i] if rng.random() < 0.45 else other[i]) for i in range(4)))
        rows.append(sentence(look, rng))
    return rows


def batch(
    tokenizer: PreTrainedTokenizerFast, size: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels ``[size, T]``; only the keywords are learned."""
    rows, starts = [], []
    for _ in range(size):
        sentences = draw_sentences(rng)
        head = tokenizer(prompt(sentences)).input_ids
        tail = tokenizer(", ".join(keywords(sentences)), add_special_tokens=False).input_ids + [
            tokenizer.eos_token_id
        ]
        rows.append((head + tail)[:CONTEXT])
        starts.append(len(head))
    width = max(map(len, rows))
    ids = torch.full((size, width), tokenizer.pad_token_id)
    labels = torch.full((size, width), -100)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, start : len(row)] = torch.tensor(row[start:])
    return ids, labels


def main(out: Path, tokenizer_folder: Path, seconds: float) -> None:
    torch.manual_seed(0)
    tokenizer = new_tokenizer(tokenizer_folder)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98))
    rng, start, step = np.random.default_rng(0), time.time(), 0
    while (spent := time.time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, step / 100) * max(0.02, 1 - spent / seconds)
        ids, labels = batch(tokenizer, 32, rng)
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step} {spent:.0f}s loss {loss.item():.3f}", flush=True)
        step += 1
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(json.dumps(agreement(out)))


@torch.inference_mode()
def agreement(folder: Path, count: int = 200) -> dict[str, float]:
    """Share of true keywords found and of written ones that are true, on unseen lists, through transformers' own loaders."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rng, found, written, right = np.random.default_rng(1_000_003), 0, 0, 0
    for _ in range(count):
        sentences = draw_sentences(rng)
        inputs = tokenizer(prompt(sentences), return_tensors="pt")
        ids = model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=16, do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        answer = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        said = {w.strip(" ,") for w in answer.replace(",", " ").split()}
        true = set(keywords(sentences))
        right, found, written = right + len(said & true), found + len(true), written + len(said)
    return {
        "keyword recall": round(right / max(found, 1), 4),
        "keyword precision": round(right / max(written, 1), 4),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
