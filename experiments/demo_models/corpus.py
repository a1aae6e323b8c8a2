"""The training corpus of the demo models: rendered pictures and sentences about them.

One in ten attribute combinations is held out from everything here; the bars of the model card are measured on those.
"""

from __future__ import annotations

import hashlib
import os
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np

from recgen.data.simulation.attributes import SIZES, VOCABULARIES, Attributes, caption
from recgen.data.simulation.factors import Factors
from recgen.data.simulation.renderer import GENRE_OF_MOTIF, movie_attributes, render, seeded_factors

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
    if kind < 0.38:
        return caption(attributes)
    if kind < 0.5:
        return f"{title(rng)}. a {motif}, " + ", ".join(
            rng.permutation([colour, f"{ground} ground", pattern])[: rng.integers(1, 4)]
        )
    if kind < 0.62:
        return str(rng.choice([
            ", ".join(rng.permutation([motif, colour, f"{ground} ground", pattern])),
            f"a poster with a {colour} {motif}, {pattern} on {ground}",
            f"{pattern} on a {ground} ground and a {motif} in {colour}",
        ]))  # fmt: skip
    if kind < 0.8:
        parts = [f"{colour} {motif}" if rng.random() < 0.5 else motif]
        parts += [f"{ground} ground"] * (rng.random() < 0.5) + [pattern] * (rng.random() < 0.5)
        return " ".join(["a", ", ".join(parts)])
    if kind < 0.9:
        return f"{title(rng)}. a {motif}" if rng.random() < 0.6 else f"a {motif}. {title(rng)}"
    return f"{title(rng)}: {GENRE_OF_MOTIF[motif]}" if rng.random() < 0.5 else f"a poster of a {motif}"


def title(rng: np.random.Generator) -> str:
    """Draw a made-up title: words that say nothing about the image.

    Half of the words of every other title are letters at random, for a real title is mostly words that are not in `TITLE_WORDS`,
    which the tokenizer cuts into many pieces. Some have a number, an article at the end, or a second title in brackets.
    """
    strange = rng.choice([0.0, 0.5, 0.9])
    words = [_word(rng, strange) for _ in range(min(1 + rng.geometric(0.4), 6))]
    if rng.random() < 0.1:
        words.insert(
            int(rng.integers(len(words) + 1)), str(rng.choice(["ii", "iii", "2", "3", "101", "&", "-"]))
        )
    name = " ".join(words).title()
    if rng.random() < 0.15:
        name += f", {rng.choice(['The', 'A', 'Les', 'Il'])}"
    if rng.random() < 0.06:
        name += f" ({' '.join(_word(rng, strange) for _ in range(rng.integers(1, 5))).title()})"
    return name


def _word(rng: np.random.Generator, strange: float) -> str:
    if rng.random() >= strange:
        return str(rng.choice(TITLE_WORDS))
    odd, even = (_VOWELS, _CONSONANTS) if rng.random() < 0.4 else (_CONSONANTS, _VOWELS)
    letters = [str(rng.choice(list(odd if n % 2 else even))) for n in range(rng.integers(2, 10))]
    return "".join(letters if rng.random() < 0.8 else rng.permutation(letters))


class Film(NamedTuple):
    """What is known of a made-up film; its title is drawn anew whenever its text is."""

    genres: list[str]
    year: int

    @property
    def spoken(self) -> list[str]:
        """The genres as MovieLens writes them."""
        return [_SPOKEN.get(genre, genre.title()) for genre in self.genres]

    def text(self, rng: np.random.Generator) -> str:
        """Draw its text, in the forms that the configurations' items have."""
        form = rng.choice(["{n} {y} {s}", "{n} {s}", "{s} {n}", "{s} {n} {y}"], p=[0.4, 0.15, 0.3, 0.15])
        return str(form).format(n=title(rng), y=self.year, s=" ".join(self.spoken))


def film(rng: np.random.Generator) -> tuple[Attributes, Film]:
    """Draw a made-up film and its poster's attributes."""
    while True:
        count = rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2])
        genres = rng.choice(GENRES, size=count, replace=False).tolist()
        made = Film(genres, int(1998 - min(rng.exponential(14), 76)))
        attributes = movie_attributes(genres, made.year, title(rng))
        if not held_out(attributes):
            return attributes, made


class Example:
    """A picture of the corpus.

    Attributes
    ----------
    attributes, factors
        What it shows; the factors are those of its seed where it was drawn without any (`plain`).
    image
        uint8 ``[64, 64, 3]``.
    film
        The film whose poster it is, or None.
    group
        Pictures of one group have the same factors and mostly the same style; -1 for a picture of none.
    plain
        Whether it looks as pictures without factors of their own do.
    """

    def __init__(
        self,
        attributes: Attributes,
        seed: int,
        factors: Factors | None,
        group: int = -1,
        film: Film | None = None,
    ) -> None:
        self.attributes, self.group, self.film, self.plain = attributes, group, film, factors is None
        self.factors = seeded_factors(seed) if factors is None else factors
        self.image = np.asarray(render(attributes, seed, factors))


SAME_STYLE, OTHER_STYLE = 3, 3
"""How many pictures of a group share a style too, and how many have each a style of their own."""


def plain(seed: int) -> list[Example]:
    """Return one picture without factors of its own: of a made-up film, or of any look."""
    rng = np.random.default_rng(seed)
    attributes, made = film(rng) if rng.random() < 0.4 else (draw_attributes(rng), None)
    return [Example(attributes, int(rng.integers(2**31)), None, film=made)]


def group(seed: int) -> list[Example]:
    """Return pictures of different contents with the same factors."""
    rng = np.random.default_rng(seed)
    factors, style = draw_factors(rng), draw_attributes(rng)
    looks = [_like(style, rng) for _ in range(SAME_STYLE)] + [
        draw_attributes(rng) for _ in range(OTHER_STYLE)
    ]
    return [Example(look, int(rng.integers(2**31)), factors, group=seed) for look in looks]


def draw_factors(rng: np.random.Generator) -> Factors:
    """Draw factors uniformly; a fifth of the pictures has no frame, a fifth no grain."""
    factors = Factors(*rng.uniform(-1, 1, len(Factors._fields)).tolist())
    without = {name: -1.0 for name in ("border", "grain") if rng.random() < 0.2}
    return factors._replace(**without)


def _like(style: Attributes, rng: np.random.Generator) -> Attributes:
    """Draw another content in the same style."""
    while True:
        attributes = style._replace(motif=int(rng.integers(SIZES[0])))
        if not held_out(attributes):
            return attributes


class Corpus:
    """About `size` pictures, `varied` of them in groups with factors of their own."""

    def __init__(self, size: int, seed: int = 0, varied: float = 0.6) -> None:
        groups, first = int(varied * size) // (SAME_STYLE + OTHER_STYLE), seed * 10_000_000
        count = size - groups * (SAME_STYLE + OTHER_STYLE)
        with Pool(int(os.environ.get("CORPUS_PROCESSES", 2))) as pool:
            parts = pool.map(plain, range(first, first + count), chunksize=500)
            parts += pool.map(group, range(first + size, first + size + groups), chunksize=100)
        rows = [row for part in parts for row in part]
        self.attributes = [row.attributes for row in rows]
        self.codes = np.array(self.attributes)
        self.factors = np.array([row.factors for row in rows], dtype=np.float32)
        self.images = np.stack([row.image for row in rows])
        self.films = [row.film for row in rows]
        self.groups = np.array([row.group for row in rows])
        self.plain = np.array([row.plain for row in rows])

    def texts(self, rows: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Draw one sentence for each row."""
        return [self._text(row, rng) for row in rows]

    def _text(self, row: int, rng: np.random.Generator) -> str:
        made = self.films[row]
        return made.text(rng) if made and rng.random() < 0.8 else sentence(self.attributes[row], rng)


def words() -> list[str]:
    """Every word the tokenizer should know whole."""
    return sorted({w for vocabulary in VOCABULARIES for w in vocabulary} | set(TITLE_WORDS) | set(GENRES))
