"""swapped: whose creative of an item is shown to a user in place of the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import Request


def donors(requests: Sequence[Request], run_seed: int) -> list[Request | None]:
    """Return for each request the request of another user for the same item, whose creative takes the place of the own one.

    Where several users are asked about an item, their creatives go around among them in an order that the seed gives: each is
    shown once, so that without an effect own and swapped creatives are exchangeable. Where a user is alone with an item, the
    donor is another user drawn by the seed of the request, and the creative has yet to be drawn.

    Parameters
    ----------
    requests
        The run's requests.
    run_seed
        The run's seed.

    Returns
    -------
    Requests, of which those in `requests` have been drawn; None where there is no other user.
    """
    by_item: dict[str, list[Request]] = {}
    for request in requests:
        by_item.setdefault(request.item_id, []).append(request)
    histories = dict(sorted((each.user_id, each.history) for each in requests))
    users = list(histories)
    found: dict[Request, Request | None] = {}
    for asked in by_item.values():
        if len(asked) > 1:
            order = sorted(asked, key=lambda each: seed_for(run_seed, "swapped", each.user_id, each.item_id))
            found |= dict(zip(order, [*order[1:], order[0]], strict=True))
        else:
            found[asked[0]] = _stranger(asked[0], users, histories, run_seed)
    return [found[request] for request in requests]


def _stranger(
    request: Request, users: Sequence[str], histories: dict[str, tuple[str, ...]], run_seed: int
) -> Request | None:
    """Return what another user would have been asked for the item, given all users and their histories."""
    if len(users) < 2:
        return None
    item = request.item_id
    place = int(numpy_rng(run_seed, "swapped", request.user_id, item).integers(len(users)))
    user = users[place] if users[place] != request.user_id else users[place - 1]
    history = tuple(token for token in histories[user] if token != item)
    return Request(user, item, seed_for(run_seed, "request", user, item), history)
