"""Groups of users who like alike, by whom textual_inversion and dreambooth learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from contract import ask

from generators.common.clusters import find_groups
from recgen.data.types import RunData


def worlds(count: int) -> RunData:
    """Users of two worlds, who like items near -5 or near +5 in every coordinate."""
    rng = np.random.default_rng(1)
    centre = np.where(np.arange(20) < 10, -5.0, 5.0)[:, None]
    rows = [
        {
            "user": user,
            "item": 10 * (user % 2) + item,
            "like": True,
            "timestamp": float(item),
            "split": "train",
        }
        for user in range(count)
        for item in rng.choice(10, 4, replace=False)
    ]
    return RunData(
        [f"u{n}" for n in range(count)], [f"i{n}" for n in range(20)], [""] * 20, [Path("x.png")] * 20,
        (centre + rng.normal(size=(20, 4))).astype(np.float32), np.zeros((20, 4), np.float32), pd.DataFrame(rows), 7,
    )  # fmt: skip


def test_clusters_are_those_who_like_alike() -> None:
    data = worlds(8)
    groups, liked = find_groups(data, 2)
    histories = [("i11", "i12") if n % 2 else ("i1", "i2") for n in range(8)]
    of = [
        groups.of(ask(user, "i0", history), data)
        for user, history in zip(data.user_ids, histories, strict=True)
    ]
    assert set(of[::2]) != set(of[1::2]) and len(set(of[::2])) == len(set(of[1::2])) == 1
    assert {item // 10 for item in liked[of[0]]} == {0} and len(liked[of[0]]) == 16
    np.testing.assert_allclose(sorted(groups.means.mean(1)), [-5, 5], atol=1)
    assert groups.of(ask("stranger", "i0", ("i13",)), data) == of[1], (
        "who is new is placed by the history of the request"
    )
    assert groups.of(ask("u0", "i0", ()), data) is None


def test_there_are_no_more_clusters_than_users() -> None:
    data = worlds(3)
    groups, liked = find_groups(data, 8)
    assert groups.count == len(liked) <= 3 and all(liked)


def test_every_user_on_their_own(data: RunData) -> None:
    groups, liked = find_groups(data, None)
    assert groups.count == len(liked) == 10 and "u11" not in groups.users
    assert (
        groups.of(ask("u3", "i1", ()), data) == groups.users.index("u3")
        and groups.of(ask("u11", "i1"), data) is None
    )
