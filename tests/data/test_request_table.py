"""Requests read off their table are those of a list."""

from __future__ import annotations

import pandas as pd
import pytest

from recgen.data import request_table
from recgen.data.request_table import RequestTable
from recgen.data.types import Request


@pytest.fixture
def both(tmp_path, monkeypatch) -> tuple[list[Request], RequestTable]:
    monkeypatch.setattr(request_table, "_PAGE", 3)
    made = [Request(f"u{n}", f"i{n % 3}", 2**62 + n, tuple(f"i{k}" for k in range(n % 4))) for n in range(10)]
    rows = [(each.user_id, each.item_id, each.seed, list(each.history), ["x"]) for each in made]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "seed", "history", "held_out"])
    table.to_parquet(tmp_path / "requests.parquet")
    return made, RequestTable(tmp_path / "requests.parquet")


def test_it_reads_as_a_list(both):
    made, table = both
    assert list(table) == made and len(table) == 10
    assert list(reversed(table)) == made[::-1] and made[4] in table and table.index(made[4]) == 4
    for place in (0, 9, -1, -10):
        assert table[place] == made[place]
    for part in (slice(2, 5), slice(None), slice(8, 99), slice(5, 2), slice(None, None, -2), slice(-3, None)):
        assert table[part] == made[part]
    with pytest.raises(IndexError):
        table[10]
