"""REBECA's ratings, training and baselines, and the contract of every generator; its prior is in test_rebeca_prior.py."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import REQUESTS, GeneratorContract, ask, assert_same_images, pixels
from diffusers import DDPMScheduler
from pydantic import ValidationError
from small_settings import REBECA as SMALL

from generators.rebeca import REBECA, Settings
from generators.rebeca.baselines import T0, T1, T2, NoUE
from generators.rebeca.embeddings import Standardisation
from generators.rebeca.prior import DISLIKE, LIKE, NO_RATING
from generators.rebeca.sampling import sample
from generators.rebeca.settings import PROMPTS
from generators.rebeca.train import (
    HeldOutLoss,
    Ratings,
    balanced_batches,
    conditions,
    drop_conditions,
    hold_out,
    train_prior,
)
from recgen.core.errors import UserError
from recgen.diffusion.backbone import Sampling
from recgen.diffusion.conditions import Condition

DECODE = Sampling(steps=2, guidance_scale=2.0)


class TestContract(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return REBECA(Settings(**{**SMALL, "decode": DECODE, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": Sampling(steps=2, guidance_scale=2.0, batch_size=size)}


class TestPromptOnly(TestContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return T1(T1.Config(**{**SMALL, "decode": DECODE, **changes}), backbone, encoder)


class TestNoUE(TestContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return NoUE(NoUE.Config(**{**SMALL, "decode": DECODE, **changes}), backbone, encoder)


def uneven_ratings() -> Ratings:
    """User 0 rated 200 images, user 1 five, user 2 one, user 4 eighty (user 3 none)."""
    users = np.repeat([0, 1, 2, 4], [200, 5, 1, 80])
    return Ratings(users, np.arange(len(users)), np.arange(len(users)) % 3 > 0)


def test_batches_are_balanced_over_users() -> None:
    ratings = uneven_ratings()
    batches = balanced_batches(ratings, 2, 80, np.random.default_rng(0))
    seen: list[int] = []
    for rows in itertools.islice(batches, 6):
        users, counts = np.unique(ratings.users[rows], return_counts=True)
        assert counts.tolist() == [80, 80]
        seen.extend(users.tolist())
        for user in users:
            own = rows[ratings.users[rows] == user]
            available = int((ratings.users == user).sum())
            assert available < 80 or len(set(own.tolist())) == 80
    assert sorted(seen) == sorted([0, 1, 2, 4] * 3), "every user once before any comes again"


def test_held_out_are_likes_and_nobody_loses_all() -> None:
    ratings = uneven_ratings()
    training, held = hold_out(ratings, 0.3, seed=1)
    assert held.likes.all() and 30 < len(held.users) < 90
    assert not set(training.images) & set(held.images) and len(training.users) + len(held.users) == len(
        ratings.users
    )
    liking = set(ratings.users[ratings.likes])
    assert set(training.users[training.likes]) == liking


def test_conditions_are_dropped_together() -> None:
    users, ratings = torch.arange(4_000) % 7, torch.arange(4_000) % 2
    dropped_users, dropped_ratings = drop_conditions(
        users, ratings, 99, 0.1, torch.Generator().manual_seed(0)
    )
    gone = dropped_users == 99
    assert torch.equal(gone, dropped_ratings == NO_RATING)
    assert torch.equal(dropped_users[~gone], users[~gone]) and torch.equal(
        dropped_ratings[~gone], ratings[~gone]
    )
    assert gone.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_noue_is_not_told_the_user() -> None:
    users, ratings = conditions(uneven_ratings(), 9, user_embeddings=False)
    assert set(users.tolist()) == {9} and set(ratings.tolist()) == {LIKE, DISLIKE}


def test_standardisation_and_back() -> None:
    raw = torch.randn(500, 3) * torch.tensor([5.0, 0.01, 0.0]) + torch.tensor([10.0, -3.0, 2.0])
    s = Standardisation.of(raw)
    standard = s.apply(raw)
    torch.testing.assert_close(standard.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-2, rtol=0)
    assert s.bound == standard.abs().max()
    torch.testing.assert_close(s.invert(standard), raw)


@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e4])
def test_standardisation_by_hand_in_any_unit(unit: float) -> None:
    raw = unit * torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    s = Standardisation.of(raw)
    torch.testing.assert_close(s.apply(raw), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    assert s.bound == 1
    alike = Standardisation.of(torch.full((2, 2), 5.0))
    assert alike.bound == 1 and not alike.apply(torch.full((2, 2), 5.0)).any(), "the least bound"


def two_tastes(n_users: int = 40, per_user: int = 60) -> tuple[Ratings, torch.Tensor]:
    """Even users like images around +1, odd users around -1, in the first of four dimensions; nobody likes the others."""
    rng = np.random.default_rng(0)
    side = np.repeat([1.0, -1.0], 200)
    embeddings = torch.from_numpy(
        np.c_[side + 0.3 * rng.normal(size=400), rng.normal(size=(400, 3))].astype(np.float32)
    )
    users = np.repeat(np.arange(n_users), per_user)
    images = rng.integers(400, size=len(users))
    likes = (side[images] > 0) == (users % 2 == 0)
    return Ratings(users, images, likes), embeddings


@pytest.mark.parametrize("user_embeddings", [True, False])
def test_learns_who_likes_what(user_embeddings: bool) -> None:
    ratings, embeddings = two_tastes()
    ratings = ratings.take(ratings.likes)
    settings = Settings(
        layers=2, heads=2, width=32, learning_rate=3e-3, max_steps=150, evaluate_every=50, users_per_step=40,
        images_per_user=8, prediction="v_prediction", prior_steps=10, guidance=1.0, user_embeddings=user_embeddings,
    )  # fmt: skip
    losses: list[float] = []
    prior = train_prior(
        ratings, embeddings, 40, settings, 3, lambda s, n, loss: losses.append(loss) if loss else None
    )
    assert losses[-1] < losses[0]
    users = [n % 40 if user_embeddings else prior.no_user for n in range(400)]
    drawn = sample(prior, users, list(range(400)), 4.0, settings)[:, 0].numpy()
    right = ((drawn > 0) == (np.arange(400) % 2 == 0)).mean()
    assert right > 0.9 if user_embeddings else 0.4 < right < 0.6


def test_early_stopping_keeps_the_best_weights() -> None:
    ratings, embeddings = two_tastes(10, 12)
    settings = Settings(
        **{**SMALL, "max_steps": 400, "evaluate_every": 2, "patience": 3, "learning_rate": 0.3}
    )
    measured: list[tuple[int, float]] = []
    prior = train_prior(
        ratings, embeddings, 10, settings, 3, lambda s, n, loss: measured.append((s, loss)) if loss else None
    )
    noise = DDPMScheduler(settings.train_timesteps, beta_schedule=settings.noise_schedule)
    held_out = HeldOutLoss(hold_out(ratings, settings.held_out, 3)[1], settings, 3, embeddings.shape[1])
    kept = held_out(prior, noise, embeddings)
    assert kept == pytest.approx(min(loss for _, loss in measured)) and kept < measured[-1][1] - 1e-3
    best = min(range(len(measured)), key=lambda n: measured[n][1])
    assert measured[-1][0] < 400 and len(measured) - 1 - best == 3


def test_users_without_likes_get_the_unconditional_prior(backbone, encoder, data) -> None:
    generator = REBECA(Settings(**SMALL), backbone, encoder)
    generator.fit(data)
    assert set(generator.users) == {f"u{n}" for n in range(10)}
    strange, known = ask("u11", "i3"), ask("u1", "i3")
    drawn = generator.embeddings([strange, known])
    prior, s = generator.prior, generator.standardisation
    expected = sample(prior, [None], [strange.seed], float(s.bound), generator.config)
    np.testing.assert_allclose(drawn[:1], s.invert(expected).numpy(), rtol=1e-4, atol=1e-4)
    assert [c.recipe["known_user"] for c in generator.generate([strange, known], data)] == [False, True]


def test_baselines_are_settings_of_one_class(backbone, encoder, data) -> None:
    images = {}
    for kind, prompt in ((T0, "T0"), (T1, "T1"), (T2, "T2")):
        generator = kind(kind.Config(decode=DECODE), backbone, encoder)
        generator.fit(data)
        creatives = list(generator.generate(REQUESTS[:2], data))
        assert generator.config.condition == "none" and generator.config.prompt == prompt
        same = REBECA(Settings(condition="none", prompt=prompt, decode=DECODE), backbone, encoder)
        assert_same_images(creatives, list(same.generate(REQUESTS[:2], data)))
        images[prompt] = pixels(creatives)
    assert np.abs(images["T0"] - images["T1"]).max() > 0 and np.abs(images["T1"] - images["T2"]).max() > 0
    assert PROMPTS["T0"] == ("", "") and PROMPTS["T1"] == ("high quality photo", "bad quality photo, letters")


@pytest.mark.parametrize("kind", [T1, T2])
def test_negative_prompts_reach_the_image(backbone, encoder, data, kind) -> None:
    generator = kind(kind.Config(decode=DECODE), backbone, encoder)
    generator.fit(data)
    (creative,) = generator.generate(REQUESTS[:1], data)
    prompt, negative = PROMPTS[kind.Config().prompt]
    seed = REQUESTS[0].seed
    whole, dropped = backbone.generate([Condition(seed, prompt, negative), Condition(seed, prompt)], DECODE)
    assert np.array_equal(np.asarray(creative.image), np.asarray(whole))
    assert not np.array_equal(np.asarray(creative.image), np.asarray(dropped))


def test_the_users_embedding_reaches_the_image(backbone, encoder, data) -> None:
    generator = REBECA(Settings(**SMALL, decode=DECODE), backbone, encoder)
    generator.fit(data)
    with_image = pixels(list(generator.generate(REQUESTS[:2], data)))
    without = pixels(
        list(
            REBECA(Settings(condition="none", decode=DECODE), backbone, encoder).generate(REQUESTS[:2], data)
        )
    )
    assert np.abs(with_image - without).mean() > 0.001


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 30, "heads": 4},
        {"prior_steps": 2000},
        {"prompt": "T9"},
        {"learning_rate": 0},
        {"no_such_key": 1},
    ],
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_loading_what_was_fitted_without_a_prior_says_so(backbone, encoder, data, tmp_path) -> None:
    baseline = T0(T0.Config(), backbone, encoder)
    baseline.fit(data)
    baseline.save(tmp_path)
    with pytest.raises(UserError, match="without a prior"):
        REBECA(Settings(), backbone, encoder).load(tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        REBECA(Settings(), backbone, encoder).load(tmp_path / "nowhere")


def test_nothing_to_learn_from_says_so(backbone, encoder, data) -> None:
    empty = replace(data, interactions=data.interactions[~data.interactions["like"]])
    with pytest.raises(UserError, match="no liked item"):
        REBECA(Settings(**SMALL), backbone, encoder).fit(empty)
