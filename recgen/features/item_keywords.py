"""Keywords of items, RAGAR eq. 6: what is kept of a language model's answer; and the frequent ones of a history, w'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

TOKENS_PER_KEYWORD = 6
_LONGEST = 40  # characters of a keyword; more is a sentence
_SEPARATORS = re.compile(r"[,;\n|•·]+")
_EDGES = " .:'\"`*_()[]{}<>“”‘’"
_NOTHING = {"none", "n/a", "and", "keywords"}
_BEFORE = re.compile(r"^(?:\W*keywords?\W*:|\s*(?:\d+[.)]|[-*–])\s)\s*", re.IGNORECASE)


def clean(answer: str, n: int) -> list[str]:
    """Return the keywords of a model's answer: lower case, without numbering, quotes and stops, each once, at most `n`.

    They are separated by commas, semicolons or lines; what is longer than a few words is talk and left out.

    >>> clean("Keywords: 1. Red Skull; dots, 'Dots'.", 8)
    ['red skull', 'dots']
    """
    pieces = (_BEFORE.sub("", _BEFORE.sub("", piece)) for piece in _SEPARATORS.split(answer.lower()))
    words = (" ".join(piece.split()).strip(_EDGES) for piece in pieces)
    return list(
        dict.fromkeys(word for word in words if word and len(word) <= _LONGEST and word not in _NOTHING)
    )[:n]


def top_keywords(lists: Iterable[Sequence[str]], n: int, min_count: int = 2) -> list[str]:
    """Return w' of RAGAR section 4.3: a history's most frequent keywords, at most `n`, the most frequent first.

    Parameters
    ----------
    lists
        The keyword list of each item of the history; a keyword counts once an item. Ties go by first appearance.
    n
        How many to return.
    min_count
        A keyword of fewer items is left out, unless that leaves nothing.
    """
    counts = Counter(word for words in lists for word in dict.fromkeys(words))
    ranked = [word for word, _ in counts.most_common()]  # equal counts stay in order of first appearance
    frequent = [word for word in ranked if counts[word] >= min_count]
    return (frequent or ranked)[:n]
