"""REBECA's prior against the paper's section 3.2: the network, guidance, sampling and the denoising loss."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from small_settings import REBECA as SMALL

from generators.rebeca import Settings
from generators.rebeca.prior import DISLIKE, LIKE, NO_RATING, Prior
from generators.rebeca.sampling import guided_noise, sample
from generators.rebeca.train import denoising_loss, new_prior
from recgen.core.seeding import torch_generator


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
