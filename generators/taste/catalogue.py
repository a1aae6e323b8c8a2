"""What taste looks at: items with their images, texts and tags, and the groups of words that say how an image looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from generators.taste.likes import has_image
from generators.taste.settings import Settings
from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.types import RunData
from recgen.features.encoders import Encoder
from recgen.features.tagger import best_phrases
from recgen.features.vocabulary import Vocabulary, read_vocabulary, vocabulary_file


@dataclass(frozen=True)
class Group:
    """Phrases that exclude one another; `style` ones say how an image looks, the others what it shows; see `best_phrases`."""

    name: str
    phrases: list[str]
    prompts: list[str]
    style: bool
    instead: dict[str, str] = field(default_factory=dict)


def word_groups(settings: Settings, encoder: Encoder) -> list[Group]:
    """Return the groups of the vocabulary of `settings`, or of the captioner's own for this encoder.

    Raises
    ------
    UserError
        Where words are to be shown and the vocabulary declares no group as style, or it cannot be read.
    """
    path = (
        vocabulary_file("clip-tagger", encoder.name)
        if settings.vocabulary is None
        else Path(settings.vocabulary)
    )
    vocabulary: Vocabulary = read_vocabulary(path)
    if settings.show != "image" and not vocabulary.style:
        raise UserError(
            f"{path}: style", found="no groups", expected="the names of groups that say how an image looks",
            todo="Add `style: [...]` to the vocabulary, or set recgen.taste.show to image.",
        )  # fmt: skip
    return [
        Group(name, group.phrases, group.prompts, name in vocabulary.style, group.instead)
        for name, group in vocabulary.groups.items()
    ]


def tags(images: np.ndarray, groups: list[Group], encoder: Encoder) -> np.ndarray:
    """Return int64 ``[n, groups]``: in each group the position of the phrase closest to each image, of embeddings ``[n, D]``."""
    found = np.zeros((len(images), len(groups)), dtype=np.int64)
    for column, group in enumerate(groups):
        place = {phrase: position for position, phrase in enumerate(group.phrases)}
        phrases = best_phrases(images, group.phrases, group.prompts, encoder, group.instead)
        found[:, column] = [place[phrase] for phrase in phrases]
    return found


@dataclass(frozen=True)
class Catalogue:
    """The items looked at: those with an image, or a sample of them.

    Attributes
    ----------
    rows
        int64 ``[N]``, their row numbers in `RunData`, ascending.
    item_ids
        Their tokens.
    images, texts
        float32 ``[N, D]``, raw CLIP embeddings; a text that has none is zeros.
    tags
        int64 ``[N, groups]``, see `tags`.
    indicators
        float32 ``[N, V]``, the tags as zeros and ones, group by group.
    """

    rows: np.ndarray
    item_ids: list[str]
    images: np.ndarray
    texts: np.ndarray
    tags: np.ndarray
    indicators: np.ndarray

    @classmethod
    def of(cls, data: RunData, rows: np.ndarray, groups: list[Group], encoder: Encoder) -> Catalogue:
        """Return the catalogue of these rows."""
        images = data.image_features[rows]
        found = tags(images, groups, encoder)
        columns = [found[:, [column]] == np.arange(len(group.phrases)) for column, group in enumerate(groups)]
        return cls(
            rows, [data.item_ids[row] for row in rows], images, np.nan_to_num(data.text_features[rows]), found,
            np.hstack(columns).astype(np.float32),
        )  # fmt: skip

    def positions(self, items: np.ndarray) -> np.ndarray:
        """Return the positions of row numbers ``[n]`` among the items looked at, int64 ``[n]``; -1 for others."""
        found = np.searchsorted(self.rows, items).clip(max=len(self.rows) - 1)
        return np.where(self.rows[found] == items, found, -1)


def sampled_rows(data: RunData, at_most: int) -> np.ndarray:
    """Return the row numbers of items with an image, int64 ``[n]``, ascending; of more than `at_most`, a sample by the seed.

    Raises
    ------
    UserError
        Where fewer than two items have an image.
    """
    rows = np.flatnonzero(has_image(data))
    if len(rows) < 2:
        raise UserError(
            "recgen.taste",
            found=f"{len(rows)} items with an image",
            expected="at least two to choose a style from",
        )
    if len(rows) > at_most:
        drawn = numpy_rng(data.run_seed, "taste catalogue").choice(rows, size=at_most, replace=False)
        rows = np.sort(drawn)
    return rows.astype(np.int64)
