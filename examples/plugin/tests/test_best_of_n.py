"""The plugin keeps recgen's contract, and keeps the image that the reward likes best."""

from __future__ import annotations

import numpy as np
import torch
from best_of_n.generator import BestOfN
from best_of_n.settings import Settings

from recgen.testing import GeneratorContract
from recgen.testing.generators import REQUESTS

pytest_plugins = ["recgen.testing.fixtures"]

DECODE = {"steps": 2, "guidance_scale": 1}


class Taste:
    """A reward with a taste of its own, that counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def score(self, users, items, embeddings):
        """Return the sum of each embedding ``[B]``, which is a taste in images."""
        self.asked += len(users)
        assert len(users) == len(items) == len(embeddings)
        return torch.as_tensor(np.asarray(embeddings).sum(axis=1))


class TestBestOfN(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return BestOfN(Settings(**{"decode": DECODE, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


def test_the_highest_score_is_kept(backbone, encoder, data):
    generator = BestOfN(Settings(decode=DECODE, noises=2), backbone, encoder)
    reward = Taste()
    found = list(generator.generate(REQUESTS[:4], data, reward=reward))
    assert reward.asked == 4 * 3 * 2
    for creative in found:
        scores = creative.recipe["scores"]
        assert len(scores) == 6 and scores[creative.recipe["candidate"]] == max(scores)
        own = float(encoder.images([creative.image]).sum())
        assert abs(own - max(scores)) < 1e-2
    assert len({creative.recipe["candidate"] for creative in found}) > 1
