"""The gallery: for some users, what they liked, the item as it is, and the item as it was drawn for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recgen.core.seeding import numpy_rng
from recgen.report.images import GALLERY_EDGE, STRIP_EDGE, data_uri
from recgen.report.run_files import RunFiles
from recgen.report.text import MINUS, plain, shorten

STRIP_LENGTH = 8
WORST = 4
"""Requests shown for how far their items fall, beside those drawn at random."""
RECIPE_LENGTH = 1500


@dataclass(frozen=True)
class Shown:
    """An image with its words; `uri` is None where there is no image.

    Of a creative also its generator, how many places its item rises by the judge, and its recipe as JSON.
    """

    uri: str | None
    alt: str
    title: str
    place: str = ""
    change: str = ""
    direction: str = "same"
    generator: str = ""
    gain: float = 0.0
    recipe: str = ""


@dataclass(frozen=True)
class Card:
    """One request."""

    user: str
    item: str
    history: list[Shown]
    older: int
    reference: Shown
    creatives: list[Shown]
    worst: bool = False


def cards(run: RunFiles) -> list[Card]:
    """Return `recgen.gallery` requests, drawn with the run's seed among those every generator answered, and the worst cases."""
    pairs = run.per_request.groupby(["user_id", "item_id"], sort=True)["generator"].nunique()
    complete: list[tuple[str, str]] = pairs[pairs == pairs.max()].index.to_list()
    rng = numpy_rng(run.seed, "gallery")
    chosen = rng.permutation(len(complete))[: run.gallery_size]
    rows = run.per_request.set_index(["user_id", "item_id"]).sort_index()
    worst = _worst(run, complete, {complete[index] for index in chosen})
    drawn = [_card(run, complete[index], rows.loc[[complete[index]]]) for index in chosen]
    return [*drawn, *(replace(_card(run, request, rows.loc[[request]]), worst=True) for request in worst)]


def _worst(
    run: RunFiles, complete: list[tuple[str, str]], shown: set[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the requests beyond those drawn in which a generator's image makes its item fall furthest."""
    table = run.per_request
    if not shown or not {"rank_original_judge", "rank_creative_judge"} <= set(table):
        return []
    falls = (table["rank_creative_judge"] - table["rank_original_judge"]).rename("falls")
    keys = [table["user_id"], table["item_id"]]
    furthest = falls.groupby(keys).max().reindex(pd.MultiIndex.from_tuples(complete)).dropna()
    ordered = furthest[furthest > 0].sort_values(ascending=False, kind="stable").index.to_list()
    return [request for request in ordered if request not in shown][:WORST]


def _card(run: RunFiles, request: tuple[str, str], rows: pd.DataFrame) -> Card:
    user, item = request
    text, image = run.items.get(item, ("", None))
    liked = run.histories.get((user, item), [])
    strip = [_item(run, token) for token in liked[-STRIP_LENGTH:]]
    name = shorten(text) or shorten(item, 60)
    first = rows.iloc[0]
    place = _place(first.get("rank_original_judge"))
    own = Shown(data_uri(image, GALLERY_EDGE), f"The item's own image: {name}", "Its own image", place)
    order = {generator: position for position, generator in enumerate(run.generators)}
    answered = sorted(rows.to_dict("records"), key=lambda row: order.get(row["generator"], len(order)))
    made = [_creative(run, (user, item, row["generator"]), row, name) for row in answered]
    return Card(shorten(user, 60), name, strip, max(len(liked) - STRIP_LENGTH, 0), own, made)


def _item(run: RunFiles, token: str) -> Shown:
    text, image = run.items.get(token, ("", None))
    name = shorten(text, 90) or shorten(token, 60)
    return Shown(data_uri(image, STRIP_EDGE), name, name)


def _creative(run: RunFiles, key: tuple[str, str, str], row: dict, name: str) -> Shown:
    before, after = row.get("rank_original_judge"), row.get("rank_creative_judge")
    change, direction = _change(before, after)
    alt = f"Image of {name} made for user {shorten(key[0], 60)} by {key[2]}"
    return Shown(
        data_uri(run.creatives.get(key), GALLERY_EDGE),
        alt,
        key[2],
        _place(after),
        change,
        direction,
        key[2],
        _rise(before, after),
        shorten(run.recipes.get(key, ""), RECIPE_LENGTH),
    )


def _rise(before: float | None, after: float | None) -> float:
    """By how many places the item rises; 0 where that is not known."""
    if before is None or after is None or np.isnan(before) or np.isnan(after):
        return 0.0
    return float(before) - float(after)


def _place(rank: float | None) -> str:
    """A 0-based rank as the place a person would count."""
    return "" if rank is None or np.isnan(rank) else f"place {plain(int(rank) + 1)}"


def _change(before: float | None, after: float | None) -> tuple[str, str]:
    """How many places the item moved, as words and as a direction."""
    if before is None or after is None or np.isnan(before) or np.isnan(after):
        return "", "same"
    moved = int(before) - int(after)
    if moved == 0:
        return "stays", "same"
    return (
        (f"▲ rises {plain(moved)}", "up")
        if moved > 0
        else (f"▼ falls {plain(-moved)}".replace("-", MINUS), "down")
    )
