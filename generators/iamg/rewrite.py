"""Interest rewrite (section 4.1): what a user's history has in common, put into words beside the item's own text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from generators.iamg.settings import DOMAIN, INTEREST, TAGS


@dataclass(frozen=True)
class Rewritten:
    """T* and what of it had to go so that the text encoder reads all of it.

    Attributes
    ----------
    text
        The rewritten text.
    tags, interest
        The item's and the user's tags in it.
    cut
        Words of the item's own text that were cut off its end.
    left_out
        Tags that even so had no place.
    """

    text: str
    tags: tuple[str, ...] = ()
    interest: tuple[str, ...] = ()
    cut: int = 0
    left_out: tuple[str, ...] = ()


def without_content(tags: Sequence[str], text: str) -> tuple[str, ...]:
    """Return an item's tags without those that its own text names.

    They say what the item is, not how it looks: a user who liked a poster of a rocket need not want rockets on all others.

    Parameters
    ----------
    tags
        The item's.
    text
        The item's own text; a tag is named in it if all its words are, in upper or lower case.

    Examples
    --------
    >>> without_content(("rocket", "teal", "dots"), "A Rocket.")
    ('teal', 'dots')
    """
    named = set(_words(text))
    return tuple(tag for tag in tags if not set(_words(tag)) <= named)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def interest_tags(history: Sequence[Sequence[str]], own: Collection[str], count: int) -> tuple[str, ...]:
    """Return eq. 5: the `count` most frequent tags of a history that are no tags of the item itself.

    Parameters
    ----------
    history
        The tags of each item of the history, oldest first; a tag counts once an item.
    own
        The item's tags.
    count
        H.

    Returns
    -------
    tuple of str
        The most frequent first; of equal ones the one that was seen later, and within one item the one it names first.
    """
    latest_first = [tag for tags in reversed(history) for tag in dict.fromkeys(tags)]
    counts = Counter(tag for tag in latest_first if tag not in own)
    return tuple(
        tag for tag, _ in counts.most_common(count)
    )  # equal counts stay in order of first appearance


def rewrite(
    text: str,
    tags: Sequence[str],
    interest: Sequence[str],
    template: Sequence[str],
    domain: str,
    fits: Callable[[str], bool],
) -> Rewritten:
    """Return T* = T + what the item is about + what it may relate to, of a length that the text encoder reads.

    A text that is too long loses words of T from its end, so that the tags survive. Where there is no room even without T, tags
    go, the last of the longer list first and of the user's where both are as long.

    Parameters
    ----------
    text
        T.
    tags, interest
        tags_i, and what `interest_tags` found.
    template, domain
        The pieces that follow T, and phi.
    fits
        Whether a text is read to its end.
    """
    words, own, liked = text.split(), list(tags), list(interest)
    left_out: list[str] = []
    while True:
        kept = _longest(words, _suffix(own, liked, template, domain), fits)
        if kept is not None:
            known = " ".join(words[:kept]) if kept < len(words) else text
            whole = (known + _suffix(own, liked, template, domain)).lstrip(" ,;")
            return Rewritten(whole, tuple(own), tuple(liked), len(words) - kept, tuple(left_out))
        if not own and not liked:
            return Rewritten("", cut=len(words), left_out=tuple(left_out))
        left_out.append((own if len(own) > len(liked) else liked).pop())


def _suffix(tags: Sequence[str], interest: Sequence[str], template: Sequence[str], domain: str) -> str:
    """Return what follows T: each piece that has tags to show."""
    found = ""
    for piece in template:
        words = tags if TAGS in piece else interest
        if words:
            found += (
                piece.replace(DOMAIN, domain)
                .replace(TAGS, ", ".join(words))
                .replace(INTEREST, ", ".join(words))
            )
    return found


def _longest(words: Sequence[str], suffix: str, fits: Callable[[str], bool]) -> int | None:
    """Return how many leading words of T fit before a suffix, or None if not even the suffix does."""
    if not fits(suffix):
        return None
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(" ".join(words[:middle]) + suffix) else (low, middle - 1)
    return low
