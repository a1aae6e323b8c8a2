"""The training corpus of the demo models: rendered pictures and sentences about them.

One in ten attribute combinations is held out from everything here; the bars of the model card are measured on those.
"""

from __future__ import annotations

import hashlib
from multiprocessing import Pool

import numpy as np

from recgen.data.simulation.attributes import SIZES, VOCABULARIES, Attributes, caption
from recgen.data.simulation.renderer import GENRE_OF_MOTIF, movie_attributes, render

TITLE_WORDS = (
    "the a of and in night day house man woman last first great lost world heart river city dark star king queen story "
    "return love life death little big blue red white black road home dream girl boy war moon sun fire water stone "
    "secret summer winter garden letter bridge train time street island game dance song shadow light angel devil mr mrs "
    "american paris london new york good bad wild golden silver two three four days years before after my your his her"
).split()
_VOWELS, _CONSONANTS = "aeiouy", "bcdfghjklmnprstvwz"
GENRES = sorted(set(GENRE_OF_MOTIF.values()))
_SPOKEN = {"children": "Children's", "sci-fi": "Sci-Fi", "film-noir": "Film-Noir"}


def held_out(attributes: Attributes) -> bool:
    """Whether a combination is kept from training."""
    return hashlib.blake2b(bytes(attributes), digest_size=1).digest()[0] < 26


def draw_attributes(rng: np.random.Generator, held: bool = False) -> Attributes:
    """Draw a combination uniformly, among the held-out ones or among the others."""
    while True:
        attributes = Attributes(*(int(rng.integers(size)) for size in SIZES))
        if held_out(attributes) == held:
            return attributes


def sentence(attributes: Attributes, rng: np.random.Generator) -> str:
    """Draw a sentence about an image: all of it, part of it, or its content only."""
    motif, colour, ground, pattern = attributes.words
    kind = rng.random()
    if kind < 0.45:
        return caption(attributes)
    if kind < 0.6:
        return str(rng.choice([
            f"{motif}, {colour}, {ground} ground, {pattern}",
            f"a poster with a {colour} {motif}, {pattern} on {ground}",
            f"{pattern} on a {ground} ground and a {motif} in {colour}",
        ]))  # fmt: skip
    if kind < 0.8:
        parts = [f"{colour} {motif}" if rng.random() < 0.5 else motif]
        parts += [f"{ground} ground"] * (rng.random() < 0.5) + [pattern] * (rng.random() < 0.5)
        return " ".join(["a", ", ".join(parts)])
    if kind < 0.9:
        return f"{title(rng)}. a {motif}"
    return f"{title(rng)}: {GENRE_OF_MOTIF[motif]}" if rng.random() < 0.5 else f"a poster of a {motif}"


def title(rng: np.random.Generator) -> str:
    """Draw a made-up title: words that say nothing about the image.

    Half of the words of every other title are letters at random, for a real title is mostly words that are not in `TITLE_WORDS`,
    which the tokenizer cuts into many pieces.
    """
    strange = 0.5 * (rng.random() < 0.5)
    return " ".join(_word(rng, strange) for _ in range(rng.integers(1, 6))).title()


def _word(rng: np.random.Generator, strange: float) -> str:
    if rng.random() >= strange:
        return str(rng.choice(TITLE_WORDS))
    odd, even = (_VOWELS, _CONSONANTS) if rng.random() < 0.4 else (_CONSONANTS, _VOWELS)
    letters = [str(rng.choice(list(odd if n % 2 else even))) for n in range(rng.integers(2, 10))]
    return "".join(letters if rng.random() < 0.8 else rng.permutation(letters))


def film(rng: np.random.Generator) -> tuple[Attributes, str]:
    """Draw a made-up film: its poster's attributes and its text, in the form the demo's items have."""
    while True:
        genres = list(rng.choice(GENRES, size=rng.integers(1, 4), replace=False))
        year = int(1998 - min(rng.exponential(14), 76))
        name = title(rng)
        attributes = movie_attributes(genres, year, name)
        if not held_out(attributes):
            spoken = " ".join(_SPOKEN.get(g, g.title()) for g in genres)
            return attributes, f"{name} {year} {spoken}" if rng.random() < 0.5 else f"{spoken} {name}"


def example(seed: int) -> tuple[Attributes, np.ndarray, str | None]:
    """Return one example: attributes, its image uint8 ``[64, 64, 3]``, and a film's text or None."""
    rng = np.random.default_rng(seed)
    attributes, text = film(rng) if rng.random() < 0.25 else (draw_attributes(rng), None)
    return attributes, np.asarray(render(attributes, int(rng.integers(2**31)))), text


class Corpus:
    """`size` examples; `texts(rows, rng)` draws a fresh sentence for each row."""

    def __init__(self, size: int, seed: int = 0) -> None:
        with Pool(2) as pool:
            rows = pool.map(example, range(seed * 10_000_000, seed * 10_000_000 + size), chunksize=500)
        self.attributes = [row[0] for row in rows]
        self.codes = np.array(self.attributes)
        self.images = np.stack([row[1] for row in rows])
        self.films = [row[2] for row in rows]

    def texts(self, rows: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Draw one sentence for each row."""
        return [self._text(row, rng) for row in rows]

    def _text(self, row: int, rng: np.random.Generator) -> str:
        film_text = self.films[row]
        return film_text if film_text and rng.random() < 0.5 else sentence(self.attributes[row], rng)


def words() -> list[str]:
    """Every word the tokenizer should know whole."""
    return sorted({w for vocabulary in VOCABULARIES for w in vocabulary} | set(TITLE_WORDS) | set(GENRES))
