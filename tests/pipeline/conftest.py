"""What the tests of runs at an URL share."""

from __future__ import annotations

from pathlib import Path

import pytest

from recgen.pipeline import lease


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a run."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/run"
    return f"file://{tmp_path}/far/run"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that end after little more than half a second."""
    monkeypatch.setattr(lease, "RENEWED", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 0.6)
