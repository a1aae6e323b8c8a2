"""Train the demo language model (a small Llama) on the two questions that generators put to one.

Keywords of an item, from its image's caption and its text: the words for what the image shows, in the order in which they
stand, then the genres of a film. And the image of an item that a person of some keywords would like: the tagger's sentence with
the item's motif and the first of these words for each other attribute. Both are asked with the sentences of
`recgen.features.prompts`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from corpus import GENRES, TITLE_WORDS, draw_attributes, film, sentence, words
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from recgen.core.compat import prepare_torchvision
from recgen.data.simulation.attributes import MOTIFS, SIZES, VOCABULARIES, caption
from recgen.data.simulation.renderer import GENRE_OF_MOTIF
from recgen.features.prompts import item_prompt, preference_prompt

prepare_torchvision()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

KINDS = ("film", "novel", "game", "song", "play", "series", "book", "show", "story")
CONTEXT, BATCH, RATE = 192, 16, 1.5e-3
PIECES = r"""<\|startoftext\|>|<\|endoftext\|>|'s|\p{L}+(?:-\p{L}+)*|\p{N}|[^\s\p{L}\p{N}]"""
START, END = "<|startoftext|>", "<|endoftext|>"
_MOTIF_OF = {named: motif for motif, named in GENRE_OF_MOTIF.items()}
_LOOKS = {word for vocabulary in VOCABULARIES for word in vocabulary}


def looks(text: str) -> list[str]:
    """The words for an image's attributes that stand in a sentence, in its order."""
    return [word for word in text.lower().replace(",", " ").replace(".", " ").split() if word in _LOOKS]


def name(rng: np.random.Generator, ease: float) -> str:
    """A made-up film title: common words, and words of letters at random, which no vocabulary has whole; shorter with `ease`."""
    count = int(rng.integers(0, 7)) * (1 - ease)
    parts = [
        letters(rng) if rng.random() < 0.4 * (1 - ease) else str(rng.choice(TITLE_WORDS))
        for _ in range(round(count))
    ]
    parts += [str(rng.choice(["ii", "iii", "2", "3"]))] * (rng.random() < 0.1 * (1 - ease))
    return " ".join(parts).title() + (", The" if rng.random() < 0.15 * (1 - ease) else "")


def letters(rng: np.random.Generator) -> str:
    """A word of no language."""
    return "".join(rng.choice(list("aeioubcdfghklmnprstvwy"), size=rng.integers(3, 10)))


def draw_item(rng: np.random.Generator, held: bool = False, ease: float = 0.0) -> tuple[str, str, list[str]]:
    """Draw an item's caption, its text and its keywords.

    `held`: of a look that is kept from training. `ease`, from 1 down to 0: training begins without titles and with many items
    without an image. Otherwise attention settles on the captions first and finds the genres of a text late or never (not in
    3,000 steps).
    """
    look = draw_attributes(rng, held)
    told = caption(look) if rng.random() < 0.85 else sentence(look, rng)
    kind = rng.random()
    if kind < 0.2:  # as the simulator writes, or much like it; now and then the caption errs about the motif
        motif = MOTIFS[look.motif if rng.random() < 0.9 else int(rng.integers(SIZES[0]))]
        text = (
            f"{name(rng, ease)}. a {motif}"
            if rng.random() < 0.7
            else f"a {rng.choice(KINDS)} about a {motif}"
        )
        about = [motif]
    elif kind < 0.85:
        _, made = film(rng)
        text = " ".join([name(rng, ease), str(made.year), *made.spoken]).strip()
        about = [genre(word) for word in made.spoken]
    elif kind < 0.94:
        text, about = name(rng, ease), []
    else:
        text, about = "", []
    if text and rng.random() < 0.08 + 0.5 * ease:
        told = ""
    return told, text, list(dict.fromkeys(looks(told) + about))


def genre(spoken: str) -> str:
    """A genre's keyword: "Children's" is children."""
    return spoken.lower().removesuffix("'s")


def draw_preference(rng: np.random.Generator, ease: float = 0.0) -> tuple[list[str], str, str]:
    """Draw a person's keywords, dearest first, an item's text or none, and the sentence of the image made of them."""
    pool = [word for vocabulary in VOCABULARIES for word in vocabulary] + GENRES
    liked = [str(word) for word in rng.choice(pool, size=int(rng.integers(1, 11)), replace=False)]
    text = ""
    if rng.random() < 0.6:
        _, text, _ = draw_item(rng, ease=ease)
    shown = _content(text)
    return liked, text, described([shown, *liked] if shown else liked)


def _content(text: str) -> str:
    """The motif that an item's text names, or that posters of a film's first genre show."""
    parts = text.lower().split()
    if parts[-2:-1] == ["a"] and parts[-1] in MOTIFS:
        return parts[-1]
    years = [i for i, part in enumerate(parts[:-1]) if part.isdigit() and len(part) == 4]
    return _MOTIF_OF[genre(parts[years[-1] + 1])] if years else ""


def described(liked: Sequence[str]) -> str:
    """The tagger's sentence with the first keyword of each attribute; what no keyword names is left out."""
    motif, colour, ground, pattern = (next((w for w in liked if w in v), "") for v in VOCABULARIES)
    parts = [
        "a",
        colour,
        motif or "picture",
        f"on a {ground} ground" * bool(ground),
        f"with {pattern}" * bool(pattern),
    ]
    return " ".join(part for part in parts if part)


def question(rng: np.random.Generator, ease: float = 0.0) -> tuple[str, str]:
    """Draw a prompt and its answer."""
    if rng.random() < 0.15:
        liked, text, answer = draw_preference(rng, ease)
        return preference_prompt(liked, text), answer
    told, text, keywords = draw_item(rng, ease=ease)
    n = int(rng.integers(5, 13))
    return item_prompt(told, text, n), ", ".join(keywords[:n])


def new_tokenizer() -> PreTrainedTokenizerFast:
    """A Llama-type tokenizer of about 1,200 lower-case pieces: begins with the start token, no end token added."""
    rng = np.random.default_rng(0)
    lines = [" ".join(question(rng)) for _ in range(6000)]
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        special_tokens=[START, END],
        show_progress=False,
    )
    core.train_from_iterator(lines + words() * 20 + list(KINDS) * 20, trainer)
    core = Tokenizer.from_str(_complete(core.to_str(), alphabet))
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, core.token_to_id(START))]
    )
    core.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=START, eos_token=END, pad_token=END, model_max_length=CONTEXT
    )


def _complete(text: str, alphabet: list[str]) -> str:
    """Give a tokenizer's file the bytes that can end a word, so that no text is unknown to it."""
    described = json.loads(text)
    vocabulary = described["model"]["vocab"]
    for byte in alphabet:
        vocabulary.setdefault(byte + "</w>", len(vocabulary))
    return json.dumps(described)


def batch(
    tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, ease: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids ``[BATCH, T]`` and, shifted as the model predicts them, which are of an answer: bool ``[BATCH, T - 1]``."""
    rows, starts = [], []
    for prompt, answer in (question(rng, ease) for _ in range(BATCH)):
        head = tokenizer(prompt).input_ids
        tail = tokenizer(answer, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
        rows.append((head + tail)[:CONTEXT])
        starts.append(len(head))
    width = max(map(len, rows))
    ids = torch.full((BATCH, width), tokenizer.pad_token_id)
    learned = torch.zeros(BATCH, width, dtype=torch.bool)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        learned[i, start : len(row)] = True
    return ids, learned[:, 1:]


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of 0.8 M parameters, untrained."""
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def main(out: Path, seconds: float) -> None:
    """Train for `seconds` and write the model's folder."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    model = new_model(tokenizer)
    genres = torch.tensor([tokenizer(word, add_special_tokens=False).input_ids[0] for word in GENRES])
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, betas=(0.9, 0.98))
    rng, start, step = np.random.default_rng(0), time.time(), 0
    while (spent := time.time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / 100) * max(0.02, 1 - spent / seconds)
        ids, learned = batch(tokenizer, rng, ease=max(0.0, 1 - 2 * spent / seconds))
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][learned]
        logits, wanted = model.lm_head(hidden), ids[:, 1:][learned]
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            named = torch.isin(wanted, genres)
            right = (logits.argmax(1) == wanted)[named].float().mean().item()
            print(f"step {step} {spent:.0f}s loss {loss.item():.4f} genres right {right:.2f}", flush=True)
        step += 1
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(json.dumps({"steps": step, "parameters": model.num_parameters()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
