"""A user's preference in words: what the texts of a history have in common and the catalogue's texts have not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W\d_][\w'-]{2,}")


class Keywords:
    """Finds the words that mark a set of texts within a catalogue.

    Parameters
    ----------
    texts
        The catalogue's texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.n = len(texts)
        self.documents = Counter(word for text in texts for word in _words(text))

    def of(self, history: Iterable[str], n: int = 8) -> list[str]:
        """Return up to `n` words, the most telling first: by the share of the history's texts that have the word, times the
        logarithm of the catalogue's size over the number of its texts that have it; words in every text are left out.

        A word of a single text of the history tells less than one of several, however rare it is; ties go by alphabet.
        """
        counts = Counter(word for text in history for word in _words(text))
        worth = {
            word: count * math.log(self.n / max(self.documents[word], 1)) for word, count in counts.items()
        }
        ranked = sorted(worth, key=lambda word: (counts[word] < 2, -worth[word], word))
        return [word for word in ranked if worth[word] > 0][:n]


def _words(text: str) -> set[str]:
    """Return the distinct lower-case words of a text, of at least three letters."""
    return set(_WORD.findall(text.lower()))
