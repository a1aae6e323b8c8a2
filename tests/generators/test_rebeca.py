"""REBECA against its equations, and the contract of every generator."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import REQUESTS, GeneratorContract, ask, assert_same_images, pixels
from diffusers import DDIMScheduler, DDPMScheduler
from pydantic import ValidationError
from small_settings import REBECA as SMALL

from generators.rebeca import REBECA, Settings
from generators.rebeca.baselines import T0, T1, T2, NoUE
from generators.rebeca.embeddings import Standardisation
from generators.rebeca.prior import DISLIKE, LIKE, NO_RATING, Prior
from generators.rebeca.sampling import guided_noise, sample
from generators.rebeca.settings import PROMPTS
from generators.rebeca.train import (
    HeldOutLoss,
    Ratings,
    balanced_batches,
    conditions,
    denoising_loss,
    drop_conditions,
    hold_out,
    new_prior,
    train_prior,
)
from recgen.core.errors import UserError
from recgen.core.seeding import torch_generator
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


def random_prior(**changes) -> Prior:
    """A prior whose every weight is random, so that no token is without effect."""
    shape = {
        "users": 5,
        "dim": 6,
        "width": 16,
        "layers": 3,
        "heads": 4,
        "user_tokens": 4,
        "image_tokens": 1,
        **changes,
    }
    torch.manual_seed(0)
    prior = Prior(**shape)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


def whole_sequence(prior: Prior, user: int, rating: int, t: int, noisy: torch.Tensor) -> torch.Tensor:
    """The prior as section 3.2 states it: the whole sequence at once under a causal mask, worked out anew."""
    width = prior.width
    angles = t * torch.exp(torch.arange(0, width, 2) * (-np.log(10_000.0) / width))
    tokens = torch.cat([
        prior.user.weight[user].view(-1, width), prior.rating.weight[rating][None],
        prior.time(torch.cat([angles.sin(), angles.cos()]))[None], prior.image(noisy).view(-1, width),
    ])  # fmt: skip
    x = tokens + prior.position
    n = len(x)
    mask = torch.full((n, n), -torch.inf).triu(1)
    for block in prior.blocks:
        y = block.norm1(x)
        q, (k, v) = block.query(y), block.key_value(y).chunk(2, dim=-1)
        heads = [t.view(n, block.heads, -1).transpose(0, 1) for t in (q, k, v)]
        weights = (heads[0] @ heads[1].transpose(1, 2) / heads[0].shape[-1] ** 0.5 + mask).softmax(-1)
        x = x + block.project((weights @ heads[2]).transpose(0, 1).reshape(n, width))
        x = x + block.contract(torch.nn.functional.gelu(block.expand(block.norm2(x))))
    return prior.head(prior.norm(x[-prior.image_tokens :]).flatten())


@pytest.mark.parametrize("image_tokens", [1, 2, 3])
def test_prior_equals_the_whole_sequence_under_a_causal_mask(image_tokens: int) -> None:
    prior = random_prior(image_tokens=image_tokens)
    users, ratings = torch.tensor([0, 4, 0, 5, 0]), torch.tensor([LIKE, DISLIKE, DISLIKE, NO_RATING, LIKE])
    timesteps, noisy = torch.tensor([3, 999, 3, 3, 3]), torch.randn(5, 6)
    expected = [
        whole_sequence(prior, *row) for row in zip(users, ratings, timesteps.tolist(), noisy, strict=True)
    ]
    torch.testing.assert_close(
        prior(users, ratings, timesteps, noisy), torch.stack(expected), atol=1e-5, rtol=1e-4
    )


def test_default_is_the_papers_size() -> None:
    settings = Settings()
    assert (settings.layers, settings.heads, settings.user_tokens, settings.image_tokens) == (8, 16, 4, 1)
    assert (settings.learning_rate, settings.weight_decay, settings.images_per_user) == (1e-4, 1e-5, 80)
    assert (settings.guidance, settings.train_timesteps, settings.prompt) == (10.0, 1000, "T0")
    prior = new_prior(3, 1024, settings, seed=0)
    assert prior.position.shape == (4 + 1 + 1 + 1, settings.width)
    assert prior(torch.tensor([1]), torch.tensor([LIKE]), torch.tensor([5]), torch.randn(1, 1024)).shape == (
        1,
        1024,
    )


def test_where_the_prior_starts() -> None:
    torch.manual_seed(0)
    prior = Prior(users=5, dim=4, width=512, layers=1, heads=4, user_tokens=4, image_tokens=1)
    assert prior.user.weight.shape == (5 + 1, 4 * 512) and not prior.user.weight.any(), "nobody is known"
    assert prior.rating.weight.shape[0] == len({LIKE, DISLIKE, NO_RATING}) == 3
    for told in (prior.rating.weight, prior.position):
        assert told.std().item() == pytest.approx(0.02, rel=0.1)
    assert not prior.head.weight.any() and not prior.head.bias.any(), "no noise is predicted"


def test_guidance_known_answer() -> None:
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert guided_noise(conditional, unconditional, 10.0).tolist() == [
        11 * 1.0 - 10 * 0.5,
        11 * 2.0 - 10 * 3.0,
    ]
    assert torch.equal(guided_noise(conditional, unconditional, 0.0), conditional)


def test_guided_sampling_equals_two_forward_passes_a_step() -> None:
    prior, settings = random_prior(), Settings(**SMALL)
    drawn = sample(prior, [2, None, 2], [7, 8, 9], 4.0, settings)
    for row, (user, rating, seed) in enumerate([(2, LIKE, 7), (5, NO_RATING, 8), (2, LIKE, 9)]):
        scheduler = DDIMScheduler(
            1000, beta_schedule="squaredcos_cap_v2", clip_sample_range=4.0, timestep_spacing="trailing"
        )
        scheduler.set_timesteps(4)
        x = torch.randn(6, generator=torch_generator(seed, "rebeca prior"))
        with torch.no_grad():
            for t in scheduler.timesteps:
                conditional = whole_sequence(prior, user, rating, int(t), x)
                unconditional = whole_sequence(prior, 5, NO_RATING, int(t), x)
                x = scheduler.step(4 * conditional - 3 * unconditional, t, x).prev_sample
        torch.testing.assert_close(drawn[row], x, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_depends_on_its_own_row_only(eta: float) -> None:
    prior, settings = random_prior(), Settings(**{**SMALL, "eta": eta})
    users, seeds = [0, 1, None, 3, 0], [10, 11, 12, 13, 14]
    together = sample(prior, users, seeds, 4.0, settings)
    alone = [sample(prior, [user], [seed], 4.0, settings) for user, seed in zip(users, seeds, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[4])
    assert sample(prior, [], [], 4.0, settings).shape == (0, together.shape[1])


def test_denoising_loss_known_answer() -> None:
    """A prior that predicts nothing loses the mean square of its target: the noise, or the velocity."""
    prior = new_prior(3, 6, Settings(**SMALL), seed=0)
    clean, noise, timesteps = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 10, 500, 999])
    rows = torch.tensor([0, 1, 2, 3]), torch.tensor([LIKE, DISLIKE, LIKE, NO_RATING])
    noise_scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    assert denoising_loss(prior, noise_scheduler, clean, *rows, timesteps, noise).item() == pytest.approx(
        noise.square().mean().item()
    )
    noise_scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    alpha = noise_scheduler.alphas_cumprod[timesteps].sqrt()[:, None]
    velocity = alpha * noise - (1 - alpha**2).sqrt() * clean
    assert denoising_loss(prior, noise_scheduler, clean, *rows, timesteps, noise).item() == pytest.approx(
        velocity.square().mean().item(), rel=1e-5
    )


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


def test_one_image_token_is_computed_per_embedding() -> None:
    """Reading users, ratings and time once makes a batch of many images per user cheaper than as many single ones."""
    prior = random_prior(width=64, layers=2, heads=4, users=500, dim=64)
    noisy, like, t = torch.randn(512, 64), torch.full((512,), LIKE), torch.full((512,), 10)

    def seconds(users: torch.Tensor) -> float:
        runs = []
        for _ in range(5):
            started = time.process_time()
            with torch.no_grad():
                prior(users, like, t, noisy)
            runs.append(time.process_time() - started)
        return min(runs)

    assert seconds(torch.zeros(512, dtype=torch.int64)) < seconds(torch.arange(512) % 500)
