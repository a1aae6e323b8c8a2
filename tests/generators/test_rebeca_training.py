"""REBECA's training against loops over the same random numbers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from generators.rebeca.prior import DISLIKE, LIKE, NO_RATING
from generators.rebeca.settings import Settings
from generators.rebeca.train import (
    HeldOutLoss,
    Ratings,
    _step_loss,
    balanced_batches,
    conditions,
    hold_out,
    new_prior,
    start_from_taste,
    train_prior,
)
from recgen.core.seeding import numpy_rng, torch_generator

USERS, DIM, SEED = 17, 14, 3
SMALL = Settings(
    layers=2, heads=2, width=16, max_steps=5, evaluate_every=2, patience=9, users_per_step=3, images_per_user=5,
    learning_rate=1e-2, held_out=0.5, condition_drop=0.3,
)  # fmt: skip


@pytest.fixture
def embeddings() -> torch.Tensor:
    return torch.randn(40, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ratings() -> Ratings:
    """In no order; user 0 only likes, user 1 likes one, user 2 nothing; user 3 has rated one image, user 16 none."""
    rng = np.random.default_rng(2)
    counts = rng.integers(3, 12, USERS - 1)
    counts[3] = 1
    users = np.repeat(np.arange(USERS - 1), counts)
    likes = rng.random(len(users)) < 0.6
    likes[users == 0], likes[users == 2] = True, False
    likes[users == 1] = np.arange((users == 1).sum()) == 1
    order = rng.permutation(len(users))
    return Ratings(users[order], rng.integers(40, size=len(users)), likes[order])


def noise_scheduler(settings: Settings) -> DDPMScheduler:
    return DDPMScheduler(
        settings.train_timesteps, beta_schedule=settings.noise_schedule, prediction_type=settings.prediction
    )


def trained_somewhat(ratings: Ratings, embeddings: torch.Tensor):
    prior = new_prior(USERS, DIM, SMALL, SEED)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(4))
    return prior


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_what_is_held_out(ratings: Ratings, share: float) -> None:
    rng, held = numpy_rng(SEED, "rebeca held out"), set()
    for user in range(USERS - 1):
        liked = np.flatnonzero((ratings.users == user) & ratings.likes)
        count = rng.binomial(len(liked), share)
        count = min(count, len(liked) - 1) if len(liked) else 0
        held |= set(rng.choice(liked, size=count, replace=False).tolist())
    mask = np.isin(np.arange(len(ratings.users)), sorted(held))
    for found, rows in zip(hold_out(ratings, share, SEED), (~mask, mask), strict=True):
        expected = ratings.take(rows)
        for name in ("users", "images", "likes"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_batches(ratings: Ratings) -> None:
    rows = [np.flatnonzero(ratings.users == user) for user in range(USERS - 1)]
    rng, queue = np.random.default_rng(0), []
    for found in islice(balanced_batches(ratings, 4, 5, np.random.default_rng(0)), 9):
        while len(queue) < 4:
            queue += rng.permutation(USERS - 1).tolist()
        batch, queue = queue[:4], queue[4:]
        expected = [rng.choice(rows[user], 5, replace=len(rows[user]) < 5) for user in batch]
        assert found.tolist() == np.concatenate(expected).tolist()


def test_users_start_from_what_sets_their_likes_apart(ratings: Ratings, embeddings: torch.Tensor) -> None:
    taste = np.zeros((USERS, DIM))
    for user in range(USERS - 1):
        mine = np.flatnonzero(ratings.users == user)
        liked, seen = ratings.likes[mine], embeddings.numpy()[ratings.images[mine]]
        rate = 0 if liked.all() else liked.mean()
        taste[user] = (
            sum((like - rate) * image for like, image in zip(liked, seen, strict=True)) / len(mine) ** 0.5
        )
    directions = np.linalg.svd(taste, full_matrices=False)[2][:12]
    kept = taste @ directions.T @ directions
    kept /= np.sqrt((kept**2).sum(axis=1).mean())
    prior = new_prior(USERS, DIM, SMALL, SEED)
    start_from_taste(prior, ratings, embeddings, SEED)
    tokens = prior.user.weight.detach().double().numpy()
    assert not tokens[USERS].any() and not tokens[USERS - 1].any(), (
        "the absent user, and one who rated nothing"
    )
    # a random projection of twelve directions: its rank, its seed, and the similarities of users on average over draws
    drawn = torch.randn(12, tokens.shape[1], generator=torch_generator(SEED, "rebeca taste")).double().numpy()
    for unit in (1, 1e-3):
        start_from_taste(prior, ratings, unit * embeddings, SEED)
        back = prior.user.weight.detach().double().numpy()[:USERS] @ np.linalg.pinv(drawn)
        np.testing.assert_allclose(back @ back.T, kept @ kept.T, atol=1e-4)
    start_from_taste(prior, ratings, 0 * embeddings, SEED)
    assert not prior.user.weight.any(), "images that are nothing set nobody apart"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_of_a_step(ratings: Ratings, embeddings: torch.Tensor, prediction: str) -> None:
    settings = SMALL.model_copy(update={"prediction": prediction})
    prior, process, batch = (
        trained_somewhat(ratings, embeddings),
        noise_scheduler(settings),
        ratings.take(np.arange(13)),
    )
    rng = torch.Generator().manual_seed(5)
    dropped = torch.rand(13, generator=rng) < 0.3
    steps = torch.randint(settings.train_timesteps, (2,), generator=rng)
    noise, losses = torch.randn(13, DIM, generator=rng), []
    for row in range(13):
        user = prior.no_user if dropped[row] else int(batch.users[row])
        rating = NO_RATING if dropped[row] else LIKE if batch.likes[row] else DISLIKE
        step, image = steps[row // 8][None], embeddings[batch.images[row]][None]
        noisy = process.add_noise(image, noise[row][None], step)
        target = (
            noise[row][None]
            if prediction == "epsilon"
            else process.get_velocity(image, noise[row][None], step)
        )
        losses.append(
            (prior(torch.tensor([user]), torch.tensor([rating]), step, noisy) - target).square().mean()
        )
    found = _step_loss(prior, process, batch, embeddings, settings, torch.Generator().manual_seed(5))
    assert dropped.any() and found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_the_loss_of_held_out_likes(ratings: Ratings, embeddings: torch.Tensor) -> None:
    prior, process = trained_somewhat(ratings, embeddings), noise_scheduler(SMALL)
    order = numpy_rng(SEED, "rebeca held out rows").permutation(len(ratings.users))
    rng, count = torch_generator(SEED, "rebeca held out noise"), 2 * len(order)
    noise = torch.randn(count, DIM, generator=rng)
    steps = torch.randint(SMALL.train_timesteps, (count,), generator=rng)
    twice = ratings.take(np.concatenate([order, order]))
    users, told = torch.from_numpy(twice.users), torch.from_numpy(np.where(twice.likes, LIKE, DISLIKE))
    noisy = process.add_noise(embeddings[twice.images], noise, steps)
    with torch.no_grad():
        expected = (prior(users, told, steps, noisy) - noise).square().mean().item()
    found = HeldOutLoss(ratings, SMALL, SEED, DIM)(prior, process, embeddings)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kinds", ["likes", "all"])
@pytest.mark.parametrize("held_out", [0.5, 0.0])
def test_training_by_a_loop(ratings: Ratings, embeddings: torch.Tensor, kinds: str, held_out: float) -> None:
    settings = SMALL.model_copy(update={"ratings": kinds, "held_out": held_out})
    rest, held = hold_out(ratings, held_out, SEED)
    prior = new_prior(USERS, DIM, settings, SEED)
    start_from_taste(prior, rest, embeddings, SEED)
    learned = rest.take(rest.likes) if kinds == "likes" else rest
    process, measure = noise_scheduler(settings), HeldOutLoss(held, settings, SEED, DIM)
    optimizer = torch.optim.AdamW(prior.parameters(), 1e-2, weight_decay=settings.weight_decay, fused=True)
    batches = balanced_batches(learned, 3, 5, numpy_rng(SEED, "rebeca batches"))
    rng, reported, states = torch_generator(SEED, "rebeca noise"), [], {}
    for step in (1, 2, 3, 4, 5):
        optimizer.zero_grad()
        _step_loss(prior, process, learned.take(next(batches)), embeddings, settings, rng).backward()
        optimizer.step()
        loss = measure(prior, process, embeddings) if held_out and step in (2, 4, 5) else None
        reported.append((step, 5, loss))
        states[5.0 - step if loss is None else loss] = {
            name: each.clone() for name, each in prior.state_dict().items()
        }
    found: list[tuple[int, int, float | None]] = []
    trained = train_prior(ratings, embeddings, USERS, settings, SEED, lambda *told: found.append(told))
    best = min((loss for *_, loss in reported if loss is not None), default=0.0)
    assert found == reported and not trained.training
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, states[best][name], rtol=0, atol=0)


def test_conditions_name_the_user_where_users_have_embeddings(ratings: Ratings) -> None:
    users, told = conditions(ratings, 99, user_embeddings=True)
    assert users.tolist() == ratings.users.tolist()
    assert told.tolist() == [LIKE if like else DISLIKE for like in ratings.likes]
