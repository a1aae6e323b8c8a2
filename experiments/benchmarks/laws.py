"""How time and memory grow: each piece of work at three sizes, with the exponent of a power law through them.

Each measurement is made in a process of its own, forked after everything is imported: CPU seconds, and how far its memory
rose above what it was before. One thread. Beside them, what a start costs: the import, the help, and a plan.

usage: python experiments/benchmarks/laws.py [--shrink 1]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from data import Clock, built, environment, write_result

from generators.rebeca.sampling import sample
from generators.rebeca.settings import Settings as RebecaSettings
from generators.rebeca.train import new_prior
from ranking_models.contrastive import contrastive_loss
from ranking_models.neighbours import nearest_items, unit_rows
from ranking_models.what_if import scorer
from recgen.data.atomic import read_atomic
from recgen.metrics.distribution import cmmd_by_user
from recgen.metrics.permutation import permutation_within_items
from recgen.recommender.negatives import sample_negatives

Work = Callable[[], Any]
PER_USER, WIDTH = 20, 64


def negatives(users: int) -> Work:
    """20 items that each user has not met, of a tenth as many items as users."""
    rng, items = np.random.default_rng(0), max(users // 10, 100)
    tokens = np.array([f"u{user}" for user in range(users)])
    catalogue = pd.DataFrame({"item_id": [f"i{item}" for item in range(items)]})
    met = catalogue["item_id"].to_numpy()[rng.integers(0, items, users * PER_USER)]
    known = pd.DataFrame({"user_id": np.repeat(tokens, PER_USER), "item_id": met})
    return lambda: sample_negatives(known, tokens, np.full(users, PER_USER), catalogue, 0, "laws")


def permutation(requests: int) -> Work:
    """The permutation test, four users an item."""
    groups = np.random.default_rng(0).random((requests // 4, 4, 4))
    return lambda: permutation_within_items(groups, 0)


def cmmd(images: int) -> Work:
    """As many creatives as real images, with an interval over users who have three each."""
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(2, images, WIDTH)).astype(np.float32)
    return lambda: cmmd_by_user(real, drawn, np.arange(images) // 3)


def graph(items: int) -> Work:
    """MICRO's 10 nearest items of each item, by exhaustive search."""
    unit = unit_rows(torch.randn(items + 1, WIDTH, generator=torch.Generator().manual_seed(0)))
    return lambda: nearest_items(unit, 10, items + 1, 1)


def contrast(items: int) -> Work:
    """MICRO's contrastive loss of one view over all items, with its gradients."""
    views = torch.randn(2, items, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return lambda: contrastive_loss(views[0], views[1], 0.5, items).backward()


def what_if(items: int) -> Work:
    """256 what-if ranks of MICRO, features of 128 numbers."""
    with tempfile.TemporaryDirectory() as folder:
        model = built(Path(folder), users=900, items=items, per_user=PER_USER, dim=128)[1].eval()
    generator = torch.Generator().manual_seed(1)
    users = torch.randint(1, model.n_users, (256,), generator=generator)
    chosen = torch.randint(1, model.n_items, (256,), generator=generator)
    images = model.features("image")[chosen.flip(0)] + 0.3 * torch.randn(256, 128, generator=generator)
    asked = scorer(model)
    return lambda: asked.rank(users, chosen, images)


def prior(users: int) -> Work:
    """REBECA's prior: 30 embeddings of 512 numbers for each user, with the quick preset's network and steps."""
    quick = {
        "layers": 2,
        "heads": 4,
        "width": 64,
        "prediction": "v_prediction",
        "prior_steps": 20,
        "guidance": 5.0,
    }
    settings = RebecaSettings.model_validate(quick)
    network = new_prior(users, 512, settings, 0)
    rows = [user for user in range(users) for _ in range(30)]
    return lambda: sample(network, rows, list(range(len(rows))), 4.0, settings)


def reading(rows: int) -> Work:
    """An atomic file of interactions."""
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    path = folder / "laws.inter"
    columns = [rng.integers(0, high, rows) for high in (rows // 20, rows // 100, 5, 10**9)]
    lines = [f"u{user}\ti{item}\t{rating}\t{time}" for user, item, rating, time in zip(*columns, strict=True)]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    path.write_text("\n".join([head, *lines]) + "\n")
    return lambda: read_atomic(
        path, "\t", ["user_id", "item_id", "rating", "timestamp"], ["user_id", "item_id"]
    )


LAWS: dict[str, tuple[str, Callable[[int], Work], tuple[int, int, int]]] = {
    "negatives, 20 a user": ("users", negatives, (10_000, 30_000, 100_000)),
    "permutation test, 4 users an item": ("requests", permutation, (1_000, 3_000, 10_000)),
    "CMMD with interval, 64 wide": ("images", cmmd, (1_000, 3_000, 10_000)),
    "graph of 10 neighbours, exhaustive, 64 wide": ("items", graph, (2_000, 6_000, 18_000)),
    "contrastive loss, all items, 64 wide": ("items", contrast, (1_000, 2_000, 4_000)),
    "256 what-if ranks, 128 wide": ("items", what_if, (1_000, 10_000, 100_000)),
    "REBECA's prior, 30 embeddings a user": ("users", prior, (100, 300, 1_000)),
    "reading interactions": ("rows", reading, (30_000, 100_000, 300_000)),
}


def measured(make: Callable[[int], Work], size: int) -> dict[str, float]:
    """Return the CPU seconds of some work at a size, and the MiB that memory rose by, from a process of its own."""
    here, there = multiprocessing.Pipe(duplex=False)

    def body() -> None:
        work = make(size)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _mebibytes("VmRSS")
        with Clock() as clock:
            work()
        there.send({"cpu": clock.cpu, "MiB": _mebibytes("VmHWM") - before})

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    there.close()
    found: dict[str, float] = here.recv()
    process.join()
    return found


def _mebibytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-4)), 1)[0])


def starts() -> dict[str, float]:
    """Return the CPU seconds of commands, each the least of three."""
    commands = {
        "import recgen": ["-c", "import recgen"],
        "recgen --help": ["-c", "from recgen.cli import recgen; recgen(['--help'])"],
        "recgen plan --config demo": [
            "-c",
            "from recgen.cli import recgen; recgen(['plan', '--config', 'demo'])",
        ],
    }
    return {name: min(_seconds(arguments) for _ in range(3)) for name, arguments in commands.items()}


def _seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes by this, for a trial")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    laws = {}
    for name, (unit, make, whole) in LAWS.items():
        sizes = [size // options.shrink for size in whole]
        found = [measured(make, size) for size in sizes]
        laws[name] = {
            "of": unit,
            "sizes": sizes,
            **{what: [round(each[what], 4) for each in found] for what in ("cpu", "MiB")},
            "exponent of cpu": round(exponent(sizes, [each["cpu"] for each in found]), 2),
            "exponent of MiB": round(exponent(sizes, [max(each["MiB"], 0.1) for each in found]), 2),
        }
        print(name, laws[name], flush=True)
    write_result(Path(__file__), {"laws": laws, "CPU seconds of a start": starts(), **environment()})


if __name__ == "__main__":
    main()
