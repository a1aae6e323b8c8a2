"""The tunable generator beside the toys, studies on the tiny data set, and a PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recgen.config import plugins

SPACE = {
    "tunable.decode.guidance_scale": {"low": 1.0, "high": 12.0, "step": 0.5},
    "tunable.k": {"low": 1, "high": 7},
}


@pytest.fixture(scope="session", autouse=True)
def tunable(toy_package: Path) -> Iterator[None]:
    """Install the tunable generator beside the toys."""
    (toy_package / "tunable_generators.py").write_text(
        (Path(__file__).parents[1] / "support/plugins/tunable_generators.py").read_text()
    )
    metadata = toy_package / "tunable-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tunable\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[recgen.generators]\ntunable = tunable_generators:Tunable\n")
    plugins._installed.cache_clear()
    yield
    shutil.rmtree(metadata)
    plugins._installed.cache_clear()


@pytest.fixture(scope="session")
def configure(
    write_config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Return a function that writes a configuration with a `tune` block and returns its path."""

    def write(tune: dict[str, Any], **changes: Any) -> str:
        folder = tmp_path_factory.mktemp("config")
        changes = {
            "generators": ["tunable"],
            "downstream": {"seeds": 1, "items": 3, "rerank": {"users": 2, "negatives": 10}},
            "gallery": 0,
            **changes,
        }
        return str(write_config(folder, tune={"space": SPACE, **tune}, **changes))

    return write
