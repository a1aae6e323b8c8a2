"""What the demo pipeline learns from: latents, embeddings and sentences of the corpus, drawn into batches of two modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from corpus import SAME_STYLE, Corpus, title
from diffusers import AutoencoderKL
from torch.utils.data import IterableDataset
from train_vae import as_input
from transformers import CLIPTokenizer

from recgen.data.simulation.attributes import caption


class Examples:
    """Latents, CLIP embeddings and sentences of the corpus."""

    def __init__(self, corpus: Corpus, vae: AutoencoderKL, clip: torch.nn.Module) -> None:
        self.corpus, latents, embeddings = corpus, [], []
        with torch.no_grad():
            for i in range(0, len(corpus.images), 200):
                x = as_input(corpus.images[i : i + 200]).to(vae.device)
                latents.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).cpu())
                embeddings.append(clip.encode_image(x).cpu())
        self.latents, self.embeddings = torch.cat(latents), torch.cat(embeddings)
        corpus.images = corpus.images[:0]  # not needed any more
        self.text_rows = np.flatnonzero(corpus.plain)
        self.films = np.array([row for row, film in enumerate(corpus.films) if film])
        self.mates = _alike(
            corpus,
            [
                (group, *look[1:])
                for group, look in zip(corpus.groups.tolist(), corpus.codes.tolist(), strict=True)
            ],
        )
        self.companions = _alike(corpus, corpus.groups.tolist())

    def rows_for(self, mode: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a batch: half films, half any picture without factors of its own; with the adapter, any picture."""
        if mode == "image":
            return rng.integers(len(self.latents), size=count)
        films = rng.choice(self.films, count // 2)
        return np.concatenate([films, rng.choice(self.text_rows, count - len(films))])

    def mean_of(self, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Mean embedding of up to eight of these images."""
        return self.embeddings[rng.choice(rows, size=int(rng.integers(1, 9)))].mean(0)

    def content_prompt(self, row: int, rng: np.random.Generator) -> str:
        """A sentence that names the row's content and not its style."""
        motif, film = self.corpus.attributes[row].words[0], self.corpus.films[row]
        if film and rng.random() < 0.5:
            return film.text(rng)
        return str(
            rng.choice([f"a {motif}", f"{title(rng)}. a {motif}", f"a poster of a {motif}", f"{motif}"])
        )

    def with_text(self, rows: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Prompts for the text mode: a tenth of them empty."""
        return ["" if rng.random() < 0.1 else text for text in self.corpus.texts(rows, rng)]

    def with_adapter(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[list[str], torch.Tensor]:
        """Prompts and image embeddings for the adapter mode."""
        prompts, embeddings = [], []
        texts = self.corpus.texts(rows, rng)
        for row, text in zip(rows, texts, strict=True):
            kind = rng.random()
            own = self.embeddings[row]
            group = self.corpus.groups[row]
            mates = self.mates[group, *self.corpus.codes[row, 1:].tolist()]
            if kind < 0.08:
                prompts.append(""), embeddings.append(torch.zeros_like(own))
            elif kind < 0.42:
                prompts.append(""), embeddings.append(own)
            elif kind < 0.85 and group >= 0 and (len(mates) < SAME_STYLE or kind < 0.6):
                full = caption(self.corpus.attributes[row]) if rng.random() < 0.7 else text
                prompts.append(full), embeddings.append(self.mean_of(self.companions[group], rng))
            elif kind < 0.85:
                prompts.append(self.content_prompt(row, rng)), embeddings.append(self.mean_of(mates, rng))
            else:
                prompts.append(text), embeddings.append(own)
        return prompts, torch.stack(embeddings)


def _alike(corpus: Corpus, keys: list[Any]) -> dict[Any, np.ndarray]:
    """Return the rows of each key."""
    found: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return {key: np.array(rows) for key, rows in found.items()}


class Batch(NamedTuple):
    """A step's pictures by row, what is asked for in tokens ``[B, L]`` and, through the adapter, embeddings ``[B, D]``."""

    rows: torch.Tensor
    tokens: torch.Tensor
    embeddings: torch.Tensor | None


class Batches(IterableDataset):
    """Batches without end; every process that draws some draws others."""

    def __init__(self, examples: Examples, tokenizer: CLIPTokenizer, size: int, seed: int) -> None:
        self.examples, self.tokenizer, self.size, self.seed = examples, tokenizer, size, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            mode = "text" if rng.random() < 0.42 else "image"
            rows = self.examples.rows_for(mode, self.size, rng)
            prompts, embeddings = (
                (self.examples.with_text(rows, rng), None)
                if mode == "text"
                else self.examples.with_adapter(rows, rng)
            )
            tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
            yield Batch(torch.from_numpy(rows), tokens.input_ids, embeddings)
