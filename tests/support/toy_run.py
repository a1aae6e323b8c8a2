"""Fixtures: a data set, a configuration and generators small enough to run through every stage in seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

USERS, ITEMS, PER_USER = 12, 30, 14


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the toy generators as a package of their own would install itself: metadata with entry points on the path."""
    from recgen.config import plugins

    folder = tmp_path_factory.mktemp("site")
    metadata = folder / "toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    names = "toy = toy_generators:Toy\nother = toy_generators:Other\nwordy = toy_generators:Wordy\n"
    names += "faulty = toy_generators:Faulty\nbroken = no_such_module:Broken\n"
    (metadata / "entry_points.txt").write_text(
        f"[recgen.generators]\n{names}[recgen.generator_settings]\nfaulty = toy_generators:FaultyConfig\n"
    )
    (folder / "toy_generators.py").write_text(
        (Path(__file__).parent / "plugins/toy_generators.py").read_text()
    )
    sys.path.insert(0, str(folder))
    plugins._installed.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    plugins._installed.cache_clear()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atomic files and images of 12 users, 30 items and ratings 1 to 5."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data") / "tiny"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for item in range(ITEMS):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(
            folder / f"images/i{item}.png"
        )
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(USERS):
        for turn, item in enumerate(rng.choice(ITEMS, PER_USER, replace=False)):
            rows.append(f"u{user}\ti{item}\t{2 if turn % 4 == 1 else 5}\t{1000 * user + turn}")
    (folder / "tiny.inter").write_text("\n".join(rows) + "\n")
    kinds = ("war film", "love story", "space opera")
    items = [f"i{item}\tnumber {item}\t{kinds[item % 3]}" for item in range(ITEMS)]
    (folder / "tiny.item").write_text(
        "item_id:token\ttitle:token_seq\tclass:token_seq\n" + "\n".join(items) + "\n"
    )
    return folder


@pytest.fixture(scope="session")
def write_config(
    toy_package: Path, dataset: Path, tiny_clip: Path, tiny_diffusion: Path
) -> Callable[..., Path]:
    """Return a function that writes the tiny configuration, with changes, into a folder."""

    def write(folder: Path, **changes: Any) -> Path:
        ours = {
            "seed": 1,
            "threads": 1,
            "images": str(dataset / "images"),
            "encoder": str(tiny_clip),
            "backbone": str(tiny_diffusion),
            "ip_adapter": None,
            "generators": ["toy"],
            "shard_size": 5,
            "controls": [],  # test_controls_run.py has them
            "downstream": {"seeds": 2, "items": 3, "rerank": {"users": 2, "negatives": 10}},
            **changes,
        }
        training = {"epochs": 2, "eval_step": 1, "use_gpu": False}
        values = {"dataset": "tiny", "data_path": str(dataset.parent), **training, "recgen": ours}
        path = folder / "tiny.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def in_child() -> Callable[..., int]:
    """Return a function that runs another in a forked process and returns its exit code; negative is a signal."""

    def run(function: Callable[..., Any], *arguments: Any) -> int:
        def body() -> None:
            with open(os.devnull, "w") as sys.stderr:
                function(*arguments)

        process = multiprocessing.get_context("fork").Process(target=body)
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    return run
