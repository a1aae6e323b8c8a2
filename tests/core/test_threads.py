"""How many threads networks take."""

from __future__ import annotations

import pytest

from recgen.core.machine import cores, threads


@pytest.mark.parametrize(
    ("told", "expected"), [("3", 3), ("5,2", 5), ("", None), ("many", None), ("0", None)]
)
def test_the_users_own_number_is_kept(monkeypatch, told, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads() == (cores() if expected is None else expected)
