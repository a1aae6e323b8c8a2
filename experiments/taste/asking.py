"""What asking costs: the answers to many requests against a large catalogue, from a reward's scores given by chunks.

Features are random and nothing is drawn. The scores are those of a factor model, made chunk by chunk, in the place of a reward's.
Measured are wall and CPU seconds of `Taste.answers`, the making of its matrices included, and the process's peak memory, in which
the run's own features are included. Usage: python -m experiments.taste.asking [--requests 10000] [--items 100000] [--dim 512]
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from experiments import harness
from generators.taste import Settings, Taste
from generators.taste.asked import Belief
from generators.taste.catalogue import sampled_rows
from generators.taste.kept import Strength
from generators.taste.learned import Learned
from generators.taste.likes import Basis, Population
from generators.taste.trust import Trust
from recgen.data.types import Request, RunData

HERE = Path(__file__).parent
PER_USER, FACTORS = 20, 16


class Phrases:
    """Stands in an encoder's place: a random embedding for every phrase."""

    name = "random"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def texts(self, sentences: list[str]) -> np.ndarray:
        """Return embeddings, float32 ``[n, D]``."""
        return (
            np.random.default_rng(len(sentences)).normal(size=(len(sentences), self.dim)).astype(np.float32)
        )


class Scores:
    """Stands in a reward's place: scores of a factor model, made when they are asked for."""

    def __init__(self, users: int, items: int, rng: np.random.Generator) -> None:
        self.users = torch.from_numpy(rng.normal(size=(users, FACTORS)).astype(np.float32))
        self.items = torch.from_numpy(rng.normal(size=(items, FACTORS)).astype(np.float32))

    def score_all(self, users: list[str], items: list[str]) -> torch.Tensor:
        """Return float32 ``[B, N]``."""
        rows, columns = [int(user[1:]) for user in users], [int(item[1:]) for item in items]
        return self.users[rows] @ self.items[columns].T


def random_data(users: int, items: int, dim: int, rng: np.random.Generator) -> RunData:
    """Return a run's data of random features, in which every user met `PER_USER` items."""
    images, texts = (rng.standard_normal((items, dim), dtype=np.float32) for _ in range(2))
    met = rng.integers(0, items, (users, PER_USER))
    table = pd.DataFrame({
        "user": np.repeat(np.arange(users), PER_USER), "item": met.ravel(), "like": rng.random(met.size) < 0.4,
        "timestamp": 0.0, "split": "train",
    })  # fmt: skip
    return RunData(
        [f"u{n}" for n in range(users)], [f"i{n}" for n in range(items)], [f"thing {n}" for n in range(items)],
        [Path("x.png")] * items, images, texts, table, 0,
    )  # fmt: skip


def known(data: RunData, settings: Settings) -> Learned:
    """Return what `fit` would have found out, in the sizes that it would have."""
    rows = sampled_rows(data, settings.catalogue)
    basis = Basis.of(data.image_features[rows])
    width = basis.directions.shape[1] + 1
    population = Population(np.zeros(width), np.eye(width) * 0.02, 0.2)
    trust = Trust(0.5, 1.0, 0.3, 5.0, 1)
    belief = Belief(basis, population, trust, np.zeros(len(rows), np.float32), 0.1, 0.1)
    return Learned(rows, belief, np.zeros(len(rows), np.float32), Strength(3, 0.5, 3.0))


def main() -> None:
    """Ask, and write asking.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    data = random_data(given.requests, given.items, given.dim, rng)
    reward = Scores(given.requests, given.items, rng)
    taste = Taste(Settings(), cast(Any, None), cast(Any, Phrases(given.dim)))
    taste._learned = known(data, taste.config)
    requests = [Request(f"u{n}", f"i{n * 7 % given.items}", n) for n in range(given.requests)]
    started, cpu = time.perf_counter(), time.process_time()
    answers = taste.answers(requests, data, reward)
    result = {
        "requests": len(answers),
        "items": given.items,
        "items looked at": len(taste.learned.rows),
        "width of embeddings": given.dim,
        "threads": torch.get_num_threads(),
        "wall seconds": time.perf_counter() - started,
        "CPU seconds": time.process_time() - cpu,
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    print(result)
    harness.save(result, HERE / "asking.json")


if __name__ == "__main__":
    main()
