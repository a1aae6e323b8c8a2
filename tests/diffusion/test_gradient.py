"""Images as a differentiable function of their image condition: the same images, and gradients that are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.gradient import LastSteps
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import load_encoder


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo-sd", "demo-ip-adapter")


@pytest.fixture(scope="module")
def conditions():
    rng = np.random.default_rng(0)
    embeddings = (0.3 * rng.standard_normal((2, 64))).astype(np.float32)
    return [
        Condition(5 + n, f"a {word}", "blue", row)
        for n, (word, row) in enumerate(zip(("rocket", "heart"), embeddings, strict=True))
    ]


def embeddings(conditions):
    return torch.from_numpy(np.stack([condition.image_embedding for condition in conditions]))


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
@pytest.mark.parametrize(("last", "guidance"), [(1, 3.0), (3, 3.0), (4, 1.0)])
def test_the_images_are_those_that_the_pipeline_draws(backbone, conditions, sampler, last, guidance):
    sampling = Sampling(steps=4, sampler=sampler, guidance_scale=guidance, ip_adapter_scale=0.8)
    expected = np.stack([np.asarray(image) for image in backbone.generate(conditions, sampling)]) / 255
    with torch.no_grad():
        pixels = LastSteps(backbone, conditions, sampling, last).pixels(embeddings(conditions))
    np.testing.assert_allclose(
        pixels.permute(0, 2, 3, 1).numpy(), expected, atol=0.006
    )  # 8 bits and rounding


def test_the_gradient_is_the_slope(backbone, conditions):
    """Against a central difference along one direction, of a function of the pixels, with all steps differentiated."""
    last = LastSteps(backbone, conditions, Sampling(steps=2, guidance_scale=2.0), 2)
    torch.manual_seed(0)
    weight, direction = torch.randn(2, 3, 64, 64) / 64, torch.randn(2, 64) / 8
    start = embeddings(conditions).requires_grad_(True)
    (weight * last.pixels(start)).sum().backward()
    with torch.no_grad():
        up, down = ((weight * last.pixels(start + step * direction)).sum() for step in (0.02, -0.02))
    assert ((start.grad * direction).sum() / ((up - down) / 0.04)).item() == pytest.approx(1, abs=0.05)


def test_more_steps_than_there_are(backbone, conditions):
    with pytest.raises(ValueError, match="from 1 to 2"):
        LastSteps(backbone, conditions, Sampling(steps=2), 3)


def test_the_encoder_reads_pixels_as_it_reads_images(backbone, conditions):
    encoder = load_encoder("demo-clip")
    images = list(backbone.generate(conditions, Sampling(steps=3, guidance_scale=2.0)))
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(encoder.pixels(pixels).numpy(), encoder.images(images), atol=1e-4)
    large = [image.resize((150, 150)) for image in images]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in large])).permute(0, 3, 1, 2) / 255
    cosine = torch.nn.functional.cosine_similarity(
        encoder.pixels(pixels), torch.from_numpy(encoder.images(large))
    )
    assert (cosine > 0.999).all()
