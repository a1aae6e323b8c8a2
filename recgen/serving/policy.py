"""Which of the images that there are of an item a user is shown, and with what probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recgen.serving.store import Shown, Store


@dataclass(frozen=True)
class Option:
    """An image that could be shown: ``own``, ``group`` or ``original``, and the creative; None for the item's own image."""

    whose: str
    creative: Shown | None


def options(store: Store, user: str, item: str) -> list[Option]:
    """Return what a user could be shown of an item, the best first: the own creative, the group's, the item's own image."""
    found: list[Option] = []
    if store.refused(user, item):
        return [Option("original", None)]
    shown = store.shown_to(user)
    own = store.creative(user, item)
    if own is not None:
        found.append(Option("own", own))
    shared = store.creative(shown, item) if shown and shown != user else None
    if shared is not None:
        found.append(Option("group", shared))
    return [*found, Option("original", None)]


def probabilities(count: int, explore: float) -> list[float]:
    """Return with what probability each of so many options is shown: the first but for a share that is dealt to all alike.

    >>> probabilities(2, 0.2), probabilities(1, 0.2)
    ([0.9, 0.1], [1.0])
    """
    return [explore / count + (1 - explore if place == 0 else 0.0) for place in range(count)]


def choose(found: Sequence[Option], explore: float, uniform: float) -> tuple[Option, float]:
    """Return what is shown and its probability, by a number drawn from [0, 1)."""
    chances = probabilities(len(found), explore)
    reached = 0.0
    for option, chance in zip(found, chances, strict=True):
        reached += chance
        if uniform < reached:
            return option, chance
    return found[-1], chances[-1]
