"""Does a creative tell that its user likes the item? (What a recommender that is trained with it would read instead of a taste.)

Taste shows a user's style. Where a user likes an item, its own look says something of that style, and so the shown one resembles
it: by as much as for held-out likes, of which nobody knows, where nothing is told. For each user's last training like and last
test like the cosine of the style that is shown with the item's own (eq. 7) is compared: by taste as it is, which leaves the like
out of what it knows of the user, and by one that does not. What is left beyond the test likes', the reward has learned.

``python -m experiments.downstream.leak`` takes the runs of ``measure.py`` as far as they are, and writes leak.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from experiments import harness
from experiments.downstream.gain import WORLDS
from experiments.downstream.measure import GENERATOR, HERE, SEEDS, WORLD, changes, knowing
from generators.taste.asked import Sources
from recgen.config.loader import load_config
from recgen.data.types import Request
from recgen.metrics.statistics import bootstrap_mean
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages.generate import Drawer


def resemblance(drawer: Drawer, likes: pd.DataFrame) -> np.ndarray:
    """Return the cosine of the style that is shown to each user with that of the liked item's own image, float64 ``[n]``."""
    generator, data = drawer.generator, drawer.run.data
    requests = [Request(user, item, 0) for user, item in zip(likes["user_id"], likes["item_id"], strict=True)]
    answers = generator.answers(requests, data, reward=drawer._reward)
    sources = generator._asked.sources
    rows = np.array([data.item_rows[request.item_id] for request in requests])
    own = sources.looks.styles[sources.catalogue.positions(rows)]
    shown = np.stack([answer.image.style for answer in answers])
    return (shown * own).sum(axis=1) / np.linalg.norm(shown, axis=1) / np.linalg.norm(own, axis=1)


def of_seed(work: Path, seed: int) -> pd.DataFrame:
    """Return the resemblances in one world: columns seed, split, informed (bool), user_id and cosine."""
    run = RunContext(load_config(WORLDS[WORLD][0], changes(seed)), work / f"retrained/{seed}")
    pipeline.execute(run, goals=[f"generator.fit/{GENERATOR}"])
    run.prepare_torch()
    drawer, likes, found = Drawer(run, GENERATOR), run.interactions[run.interactions["like"]], []
    for split in ("train", "test"):
        last = likes[likes["split"] == split].drop_duplicates("user_id", keep="last")
        for informed in (False, True):
            with patch.object(Sources, "coefficients", knowing if informed else Sources.coefficients):
                cosine = resemblance(drawer, last)
            users = f"{seed}/" + last["user_id"]
            found.append(pd.DataFrame({
                "seed": seed, "split": split, "informed": informed, "user_id": users, "cosine": cosine
            }))  # fmt: skip
    return pd.concat(found, ignore_index=True)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/downstream"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    given = parser.parse_args()
    table = pd.concat([of_seed(given.work, seed) for seed in given.seeds], ignore_index=True)
    means: dict[str, Any] = {}
    for (split, informed), rows in table.groupby(["split", "informed"]):
        name = f"{split} likes, {'read' if informed else 'left out'}"
        means[name] = bootstrap_mean(rows["cosine"], rows["user_id"], seed=0).as_json()
    harness.save({"world": WORLD, "seeds": given.seeds, "cosine": means}, HERE / "leak.json")


if __name__ == "__main__":
    main()
