"""The CLIP tagger: the phrases of a vocabulary that are closest to an image, as tags or joined to a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from scipy.special import softmax

from recgen.features.vocabulary import Group, Vocabulary

_ROWS = 16_384  # embeddings compared with the phrases at once


class TextEncoder(Protocol):
    """What the tagger needs of an encoder: raw text embeddings, float32 ``[n, D]``."""

    def texts(self, sentences: Sequence[str], /) -> np.ndarray: ...


def tag(images: np.ndarray, vocabulary: Vocabulary, encoder: TextEncoder) -> list[str]:
    """Return a caption per image: in each group the phrase closest to it by cosine, joined by the vocabulary's sentence.

    Parameters
    ----------
    images
        CLIP image embeddings ``[n, D]`` of the same encoder.
    """
    chosen = {
        name: best_phrases(images, group.phrases, group.prompts, encoder, group.instead)
        for name, group in vocabulary.groups.items()
    }
    return [
        vocabulary.caption.format(**{name: found[row] for name, found in chosen.items()})
        for row in range(len(images))
    ]


def best_phrases(
    images: np.ndarray,
    phrases: Sequence[str],
    prompts: Sequence[str],
    encoder: TextEncoder,
    instead: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the phrase closest to each image: cosine of its embedding and the mean direction of the phrase's prompts.

    A phrase that is a key of `instead` is given to the images of that other phrase.
    """
    directions = _directions(phrases, prompts, encoder, instead)
    found: list[str] = []
    for start in range(
        0, len(images), _ROWS
    ):  # the length of an image's embedding does not change which phrase is closest
        found += [phrases[best] for best in (images[start : start + _ROWS] @ directions.T).argmax(axis=1)]
    return found


def _directions(
    phrases: Sequence[str], prompts: Sequence[str], encoder: TextEncoder, instead: Mapping[str, str]
) -> np.ndarray:
    """Return the mean direction of each phrase's prompts, ``[k, D]`` of length 1.

    An encoder is asked once as long as it lives: many tasks of a run ask for the same vocabulary, whose hundreds of sentences
    take a large text encoder minutes on a CPU.
    """
    meant = [instead.get(phrase, phrase) for phrase in phrases]
    sentences = tuple(prompt.replace("{}", phrase) for phrase in meant for prompt in prompts)
    asked, key = _asked.setdefault(encoder, {}), (len(prompts), sentences)
    if key not in asked:
        texts = _unit(encoder.texts(sentences)).reshape(len(phrases), len(prompts), -1)
        asked[key] = _unit(texts.mean(axis=1))
        asked[key].setflags(write=False)
    return asked[key]


_asked: WeakKeyDictionary[TextEncoder, dict[tuple[int, tuple[str, ...]], np.ndarray]] = WeakKeyDictionary()


def phrase_probabilities(
    images: np.ndarray, group: Group, encoder: TextEncoder, logit_scale: float
) -> np.ndarray:
    """Return how likely each phrase of a group is for each image, float64 ``[n, k]``: CLIP's zero-shot classifier.

    Parameters
    ----------
    images
        CLIP image embeddings ``[n, D]`` of the same encoder; a row of NaN gets probabilities of NaN.
    group
        The phrases, which exclude one another.
    logit_scale
        What CLIP multiplies cosines by before the softmax (Radford et al. 2021).
    """
    cosines = _unit(images) @ _directions(group.phrases, group.prompts, encoder, group.instead).T
    return softmax(logit_scale * cosines.astype(np.float64), axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def tag_groups(images: np.ndarray, vocabulary: Vocabulary, encoder: TextEncoder) -> list[tuple[str, ...]]:
    """Return the phrase of each group of the vocabulary that is closest to each image, in the groups' order.

    Parameters
    ----------
    images
        CLIP image embeddings ``[n, D]`` of the same encoder.
    """
    groups = [
        best_phrases(images, group.phrases, group.prompts, encoder, group.instead)
        for group in vocabulary.groups.values()
    ]
    return list(zip(*groups, strict=True))
