"""A short torture, and with ``--torture MINUTES`` (`make torture`) a long one whose counts go into docs/reliability.md."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from attacks import Tally, damaged_files, full_disk, kills, results
from inputs import hostile
from page import written

from recgen.pipeline import session
from recgen.pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_config) -> Path:
    """A run through every stage but the market, as small as can be."""
    downstream = {"seeds": 1, "items": 2, "controls": False}
    folder = tmp_path_factory.mktemp("config")
    return write_config(folder, controls=["swapped"], downstream=downstream, requests=6)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, config) -> tuple[Path, float]:
    """The folder of an undisturbed run, and the seconds that its tasks took."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    session.run(str(config), str(folder))
    return folder, sum(Workspace(folder).seconds().values())


@pytest.mark.slow
def test_a_short_torture(config, undisturbed, dataset, tmp_path):
    """All but the kills, which tests/pipeline has."""
    folder, _ = undisturbed
    rng, whole = random.Random(0), results(folder)
    assert len(whole) > 40
    found = hostile(config, dataset, tmp_path, rng, 300)
    names = rng.sample(sorted(whole), 6)
    found += damaged_files(config, folder, whole, rng, names, tmp_path / "damaged")
    found += full_disk(config, whole, rng, sum(path.stat().st_size for path in folder.rglob("*")))
    assert not found.bad, "\n\n".join(found.bad)
    assert sum(found.tried.values()) >= 306


def test_a_long_torture(request, config, undisturbed, dataset, tmp_path):
    minutes, seed = request.config.getoption("torture", 0.0), request.config.getoption("torture_seed", 0)
    if not minutes:
        pytest.skip("only with --torture MINUTES, as make torture has it")
    folder, seconds = undisturbed
    rng, whole, found = random.Random(seed), results(folder), Tally()
    room, ends = sum(path.stat().st_size for path in folder.rglob("*")), time.monotonic() + 60 * minutes
    names: list[str] = []
    turn = 0
    while time.monotonic() < ends:
        found += kills(config, tmp_path / f"killed{turn}", whole, rng, seconds, workers=1 + turn % 2)
        found += hostile(config, dataset, tmp_path, rng, 1000)
        if not names:  # every file once before any comes again; stages' records and the log among them
            names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
            rng.shuffle(names)
        for _ in range(4):
            chosen, names = names[:8], names[8:]
            found += damaged_files(config, folder, whole, rng, chosen, tmp_path / "damaged")
        found += full_disk(config, whole, rng, room)
        turn += 1
        written(ROOT, found, minutes, seed, len(whole))
    assert not found.bad, "\n\n".join(found.bad[:20])
