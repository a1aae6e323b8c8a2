"""What taste thinks of new images, eq. 6 written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from generators.taste.asked import Asked, Belief, Sources
from generators.taste.catalogue import Catalogue
from generators.taste.likes import Basis, Population
from generators.taste.trust import Trust
from recgen.data.types import RunData

USERS, ITEMS, WIDTH = 3, 12, 4


class Linear:
    """A ranking model whose score is a product of a user's and an image's vector."""

    def __init__(self, taste: np.ndarray) -> None:
        self.taste = taste

    def score(self, users, items, embeddings) -> torch.Tensor:
        rows = [int(user[1:]) for user in users]
        return torch.from_numpy((self.taste[rows] * embeddings).sum(axis=1))

    def differentiable(self, users, items):
        taste = torch.from_numpy(self.taste[[int(user[1:]) for user in users]]).float()
        return lambda embeddings: (taste * embeddings).sum(1)


def made(met: dict[int, tuple[np.ndarray, np.ndarray]], trust: Trust) -> tuple[Asked, Linear]:
    """Return who is asked, in a world of 12 items and users who met these, and the ranking model."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
    texts = rng.normal(size=(ITEMS, 2)).astype(np.float32)
    ids = [f"i{item}" for item in range(ITEMS)]
    data = RunData(
        [f"u{n}" for n in range(USERS)], ids, [""] * ITEMS, [None] * ITEMS, images, texts, pd.DataFrame(), 1
    )
    catalogue = Catalogue(
        np.arange(ITEMS), ids, images, texts, np.zeros((ITEMS, 1), int), np.ones((ITEMS, 1), np.float32)
    )
    basis = Basis.of(images)
    population = Population(rng.normal(size=WIDTH + 1), np.diag(rng.uniform(0.5, 1.0, WIDTH + 1)), 0.3)
    reward = Linear(rng.normal(size=(USERS, WIDTH)))
    belief = Belief(basis, population, trust, np.zeros(ITEMS, np.float32), 1.0)
    return Asked(Sources(data, catalogue, reward, basis, population, met), belief), reward


@pytest.mark.parametrize(
    "trust", [Trust(0.7, 1.3, 0.2, 5.0, 9), Trust(0.0, 1.3, 0.0, 0.0, 0), Trust(0.7, 0.0, 0.0, 0.0, 9)]
)
def test_reward_and_own_likes_each_weigh_as_they_are_trusted(trust) -> None:
    """Users are asked about items 0, 1 and 2; what user 0 made of item 0 does not count."""
    met = {0: (np.array([0, 3, 5]), np.array([True, False, True])), 1: (np.array([2]), np.array([True]))}
    asked, reward = made(met, trust)
    sources = asked.sources
    basis, population = sources.basis, sources.population
    new = np.random.default_rng(1).normal(size=(USERS, WIDTH)).astype(np.float32)
    found = asked.opinion([0, 1, 2], sources.data.item_ids[:USERS], new)
    nothing = (np.zeros(0, int), np.zeros(0, bool))
    for user, (items, likes) in enumerate([(np.array([3, 5]), np.array([False, True])), met[1], nothing]):
        x, precision = basis.design(sources.data.image_features[items]), np.linalg.inv(population.covariance)
        spread = np.linalg.inv(precision + x.T @ x / population.noise)
        b = spread @ (precision @ population.mean + x.T @ likes / population.noise)
        count = len(met.get(user, nothing)[0])
        known = count / max(count + trust.half_trust, 1)
        expected = (
            trust.likes * basis.design(new[[user]])[0] @ b
            + trust.reward * known * reward.taste[user] @ new[user]
        )
        assert found[user] == pytest.approx(expected, rel=1e-4)
    images, ids = torch.from_numpy(new).requires_grad_(), sources.data.item_ids
    same = asked.differentiable([f"u{n}" for n in range(USERS)], ids[:USERS])(images)
    np.testing.assert_allclose(same.detach(), found, rtol=1e-3, atol=1e-4)
    (slope,) = torch.autograd.grad(same.sum(), images)
    nudged = asked.opinion([0, 1, 2], ids[:USERS], new + 0.01 * slope.numpy())
    np.testing.assert_allclose(nudged - found, 0.01 * np.square(slope.numpy()).sum(1), rtol=1e-2, atol=1e-4)
    stranger = asked.differentiable(["nobody", "u1"], ids[:2])(images[:2]).detach()
    assert stranger[1] == pytest.approx(found[1], rel=1e-3)
    everybody = trust.likes * basis.design(new[:1])[0] @ population.mean
    assert stranger[0] == pytest.approx(everybody, rel=1e-3)


def test_whether_the_asked_for_item_was_liked_changes_nothing() -> None:
    """Else a creative shows of whom its item is liked, and a recommender trained with it reads there what it is to learn."""
    items, trust = np.array([0, 3, 5]), Trust(0.0, 1.0, 0.0, 0.0, 0)
    liked, disliked = (
        made({0: (items, np.array([first, False, True]))}, trust)[0] for first in (True, False)
    )
    for asked in (liked, disliked):
        asked.sources.reward = None
    asked_for, another, nothing = (np.array([item]) for item in (0, 3, -1))
    for item, same in ((asked_for, True), (another, False), (nothing, False)):
        scores = [asked.ask([0], item)[0] for asked in (liked, disliked)]
        assert np.allclose(*scores, atol=1e-6) == same


def test_a_reward_that_is_believed_and_has_no_gradient_leaves_the_opinion_without_one() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
    data = RunData(["u0"], ["i0"], [""], [None], images, images, pd.DataFrame(), 1)
    basis = Basis.of(images)
    population = Population(np.zeros(WIDTH + 1), np.eye(WIDTH + 1), 1.0)
    catalogue = Catalogue(
        np.arange(ITEMS), ["i0"] * ITEMS, images, images, np.zeros((ITEMS, 1), int), np.ones((ITEMS, 1))
    )

    class Flat(Linear):
        def differentiable(self, users, items):
            return None

    for weight, there in ((0.5, False), (0.0, True)):
        belief = Belief(basis, population, Trust(weight, 1.0, 0.0, 0.0, 9), np.zeros(ITEMS, np.float32), 1.0)
        asked = Asked(Sources(data, catalogue, Flat(images), basis, population, {}), belief)
        assert (asked.differentiable(["u0"], ["i0"]) is not None) == there
