"""RAGAR's learner with drawing replaced by the identity: what it learns in seconds, at the width of a toy and of ViT-H.

An image's embedding is what it was drawn from, so that nothing but the learner decides. Users like one or the other side of the
catalogue's first direction, and only their keywords say which: their images are the same, and the stub of the text encoder
returns the same tokens for every prompt. What is learned about a user is therefore learned through the language model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from generators.ragar.calibrator import Scale
from generators.ragar.examples import ExampleBuilder, TrainingExamples, training_examples
from generators.ragar.model import Model
from generators.ragar.settings import Settings
from generators.ragar.train import Trainer
from recgen.core.seeding import torch_generator
from recgen.data.types import RunData
from recgen.features.language import LanguageModel

ITEMS, USERS, CONDITION = 60, 90, 32
SIDES = ("red", "blue")


class StubBackbone:
    """As much of a backbone as the network asks of it."""

    condition_width = CONDITION
    device = torch.device("cpu")
    checkpoints_gradients = False

    def embed_prompts(self, prompts):
        return torch.randn(1, 4, CONDITION, generator=torch_generator(0, "tokens")).repeat(len(prompts), 1, 1)


class Identity(Trainer):
    """A trainer whose images have the embeddings that they were drawn from."""

    def _draw(self, wanted):
        return np.stack([each.image_embedding for each in wanted])


class Sides:
    """A recommender for whom a user likes one side of a direction."""

    def __init__(self, direction: np.ndarray, sign: float = 1.0) -> None:
        self.direction, self.sign = direction, sign

    def score(self, users, items, embeddings):
        sides = np.array([1.0 if int(user[1:]) % 2 else -1.0 for user in users])
        return torch.as_tensor(self.sign * sides * (np.asarray(embeddings) @ self.direction))


def world(width: int) -> tuple[RunData, np.ndarray]:
    """Items spread widely along one direction and little along others, and users whose keywords tell their side."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(width, 6)))[0]
    spread = np.array([3.0, 1.0, 1.0, 0.7, 0.7, 0.5])
    features = (rng.normal(size=(ITEMS, 6)) * spread) @ axes.T * (width / 64) ** 0.5 + 0.05 * rng.normal(
        size=(ITEMS, width)
    )
    words = [SIDES[item % 2] for item in range(ITEMS)]
    features[1::2] = features[::2]  # an item of either word for every image
    rows = [
        {
            "user": user,
            "item": int(2 * pair + user % 2),
            "like": True,
            "timestamp": float(at),
            "split": "train",
        }
        for user in range(USERS)
        for at, pair in enumerate(rng.permutation(ITEMS // 2)[:6])
    ]
    data = RunData(
        [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)], ["a thing"] * ITEMS, [None] * ITEMS,
        features.astype(np.float32), features.astype(np.float32), pd.DataFrame(rows), 3, ["a thing"] * ITEMS,
        rng.normal(size=(ITEMS, 8)).astype(np.float32), [(word,) for word in words],
    )  # fmt: skip
    return data, axes[:, 0] / np.linalg.norm(features @ axes[:, 0]) * ITEMS**0.5


def settings(**changes) -> Settings:
    small = {
        "image_tokens": 2,
        "lora_rank": 2,
        "mapper_layers": 1,
        "mapper_width": 16,
        "mapper_queries": 2,
        "heads": 2,
    }
    sizes = {"max_steps": 40, "evaluate_every": 10, "train_users": 70, "held_out_users": 20, "min_history": 2}
    retrieval = {"retrieve_from": "history", "weights": "similarity"}
    return Settings(**{**small, **sizes, **retrieval, **changes})


def learn(width: int, llm, sign: float = 1.0, **changes) -> tuple[Identity, TrainingExamples, list[float]]:
    """Train; return the trainer, its examples, and the held-out reward before and after."""
    (data, direction), chosen = world(width), settings(**changes)
    scale = Scale.of(data.image_features, chosen.directions)
    model = Model(LanguageModel(str(llm)), StubBackbone(), scale, chosen, data.run_seed)
    examples = training_examples(ExampleBuilder(data, chosen))
    trainer = Identity(model, None, Sides(direction, sign), None, chosen, data.run_seed)
    curve = trainer.train(examples, lambda *_: None)["reward, held-out users"]
    return trainer, examples, [curve[0][1], trainer._evaluate(0, examples.held_out)]


@pytest.mark.parametrize("width", [64, 1024])
def test_the_defaults_learn_at_any_width_and_through_the_language_model(width, tiny_llm) -> None:
    trainer, examples, (before, after) = learn(width, tiny_llm)
    assert abs(before) < 0.3
    assert after > before + 0.5
    with torch.no_grad():
        trainer.model.calibrator.correct.weight[:, : 2 * 8] = 0  # what is read of P_gen and E_m
    zeroed = trainer._evaluate(0, examples.held_out)
    assert zeroed < after - 0.5, "without the language model nobody knows a user's side"


def test_a_reward_of_the_other_sign_teaches_the_opposite(tiny_llm) -> None:
    """With the loss's sign turned the held-out reward would fall, and the start be kept."""
    trainer, examples, (before, after) = learn(64, tiny_llm, sign=-1.0)
    assert after > before + 0.5
    trainer.reward.sign = 1.0
    assert trainer._evaluate(0, examples.held_out) < before - 0.5


def test_the_printed_sum_over_the_width_leaves_nothing_to_learn(tiny_llm) -> None:
    """Eq. 10 as printed at 1,024 dimensions: P_ret holds the preference where it is."""
    _, _, (before, after) = learn(1024, tiny_llm, distance="sum")
    assert after < before + 0.3
