"""Models built on a small data set, with no command line for RecBole to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_dataset import Built, write_dataset


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole reads settings from the command line of whatever program it runs in."""
    monkeypatch.setattr(sys, "argv", ["pytest"])


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Build a model on a small data set; keyword arguments are config keys."""
    monkeypatch.chdir(tmp_path)

    def make(model: str = "MICRO", users: int = 20, items: int = 25, per_user: int = 8, **settings) -> Built:
        return Built(model, {**write_dataset(tmp_path, users, items, per_user), **settings})

    return make
