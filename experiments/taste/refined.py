"""What gradient ascent of the reward adds to `taste`, against choosing by the reward at about the same cost.

Usage: python -m experiments.taste.refined [--work FOLDER] [--seeds 1 2]

Verifier at 200 encounters. The settings are those named beforehand (9 Adam steps, the last 3 of 6 denoising steps, a hinge on
content): none was chosen on a simulated world. A refined image costs about as many passes of the UNet as 8 images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from experiments import harness
from experiments.taste.arms import DECODE, FIXED, fit
from experiments.taste.worlds import WORLDS, Measured, prepared
from generators.common.settings import Refinement
from generators.taste import Taste
from recgen.core.seeding import seed_for
from recgen.data.types import Request
from recgen.diffusion.backbone import Condition
from recgen.recommender.reward import RewardModel
from recgen.stages.ranker import reward_model

HERE = Path(__file__).parent
SEEDS, REQUESTS = (1, 2), 60
LOOKS = (1, 2, 3, 5, 10, 20, 40, 80)
"""k of the conditions that are chosen among."""
REFINED = Refinement(steps=9)


def main() -> None:
    """Draw every arm of every seed and write refined.json."""
    given = harness.arguments(__doc__ or "", SEEDS)
    (world,) = [each for each in WORLDS if each.name == "verifier-200"]
    found: dict[str, list[pd.DataFrame]] = {}
    for seed in given.seeds:
        run = prepared(given.work / "taste_refined", world, seed)
        requests, reward = run.requests[:REQUESTS], reward_model(run, "reward")
        measured = Measured(run, requests)
        for name, images in _arms(fit(run, run.data, reward, "both"), requests, run.data, reward).items():
            embeddings = run.encoder.images(images)
            score = reward.score(measured.users, measured.items, embeddings).numpy()
            found.setdefault(name, []).append(measured.table(images).assign(reward=score))
            print(seed, name, found[name][-1][["gain", "content", "reward"]].mean().to_dict(), flush=True)
    tables = {name: pd.concat(rows, ignore_index=True) for name, rows in found.items()}
    metrics = ("gain", "content", "reward")
    result = {
        "seeds": list(given.seeds),
        "requests": len(tables["taste"]),
        "arms": {name: harness.means(rows, metrics) for name, rows in tables.items()},
        "against taste": {
            name: harness.paired(rows, tables["taste"], metrics)
            for name, rows in tables.items()
            if name != "taste"
        },
        "refined against best of 8 conditions": harness.paired(
            tables["refined"], tables["best of 8 conditions"], metrics
        ),
    }
    harness.save(result, HERE / "refined.json")


def _arms(
    taste: Taste, requests: Sequence[Request], data: Any, reward: RewardModel
) -> dict[str, list[Image.Image]]:
    conditions = _conditions(taste, requests, data, reward)
    sampling = FIXED["both"].sampling(DECODE)
    noises = [
        [replace(each, seed=seed_for(each.seed, f"noise {turn}")) for each in conditions] for turn in range(8)
    ]
    looks = []
    for k in LOOKS:
        taste.config = taste.config.model_copy(update={"k": k})
        looks.append(_conditions(taste, requests, data, reward))
    taste.config = taste.config.model_copy(update={"k": 10, "refine": REFINED})
    drawings = [(condition, {}) for condition in conditions]
    refined = [each for each, _ in taste._refined(requests, drawings, data, reward, sampling)]

    def drawn(of: Sequence[Condition]) -> list[Image.Image]:
        return list(taste.backbone.generate(of, sampling))

    return {
        "taste": drawn(conditions),
        "best of 8 noises": _best(taste, [drawn(each) for each in noises], requests, reward),
        "best of 8 conditions": _best(taste, [drawn(each) for each in looks], requests, reward),
        "refined": drawn(refined),
    }


def _conditions(taste: Taste, requests: Sequence[Request], data: Any, reward: RewardModel) -> list[Condition]:
    answers = taste.answers(requests, data, reward)
    pairs = zip(requests, answers, strict=True)
    return [taste.drawing(request, answer, data, FIXED["both"])[0] for request, answer in pairs]


def _best(
    taste: Taste, rounds: Sequence[list[Image.Image]], requests: Sequence[Request], reward: RewardModel
) -> list[Image.Image]:
    """Return for each request the image of the rounds that the reward prefers."""
    users, items = [r.user_id for r in requests], [r.item_id for r in requests]
    scores = np.stack([reward.score(users, items, taste.encoder.images(images)).numpy() for images in rounds])
    return [rounds[best][row] for row, best in enumerate(scores.argmax(axis=0))]


if __name__ == "__main__":
    main()
