"""A small simulated data set with a generator that knows what its users like, for tests of the market and of what uses it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def ideal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the ideal generator as a package of its own would install itself."""
    from recgen.config import plugins

    folder = tmp_path_factory.mktemp("site")
    metadata = folder / "ideal-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ideal\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[recgen.generators]\nideal = ideal_generators:Ideal\n")
    shutil.copy(Path(__file__).with_name("plugins") / "ideal_generators.py", folder)
    sys.path.insert(0, str(folder))
    plugins._installed.cache_clear()
    yield
    sys.path.remove(str(folder))
    plugins._installed.cache_clear()


@pytest.fixture(scope="session")
def market_config(ideal: None) -> Callable[..., Path]:
    """Return a function that writes the configuration into a folder, whose run or first trial is to be in its folder `run`."""

    def write(folder: Path, **changes: Any) -> Path:
        ours = {
            "seed": 5,
            "threads": 1,
            "simulator": {"users": 40, "items": 60, "seed": 1, "interactions_per_user": 24},
            "ranker": {"reward": "VBPR", "judge": "VBPR"},
            "generators": ["ideal"],
            "ideal": {"truth": str(folder / "run/dataset/simulator"), "record": str(folder / "drawn.txt")},
            "controls": ["original", "swapped"],
            "requests": {"protocol": "blind", "items": 4, "per_item": 2},
            "downstream": {"seeds": 1, "controls": False},
            "gallery": 2,
            **changes,
        }
        values = {"dataset": "small", "epochs": 2, "use_gpu": False, "recgen": ours}
        (folder / "small.yaml").write_text(yaml.safe_dump(values))
        return folder / "small.yaml"

    return write
