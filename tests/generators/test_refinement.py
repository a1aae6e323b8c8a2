"""Conditions moved uphill draw images that score more, one by one, and keep their content."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generators.common.refinement import Refinement, refine
from recgen.diffusion.backbone import Condition, load_backbone
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import load_encoder

SAMPLING = Sampling(steps=4, sampler="dpm++2m", guidance_scale=3.0)


@pytest.fixture(scope="module")
def setting():
    backbone, encoder = load_backbone("demo-sd", "demo-ip-adapter"), load_encoder("demo-clip")
    prompts = ["a rocket", "a heart", "a key"]
    seen = encoder.images(
        list(backbone.generate([Condition(9 + n, p) for n, p in enumerate(prompts)], SAMPLING))
    )
    conditions = [
        Condition(1 + n, prompt, image_embedding=row)
        for n, (prompt, row) in enumerate(zip(prompts, seen, strict=True))
    ]
    torch.manual_seed(0)
    taste = torch.randn(3, 64)
    return backbone, encoder, conditions, torch.from_numpy(encoder.texts(prompts)), taste


def scores(setting, conditions, taste):
    backbone, encoder, *_ = setting
    return (torch.from_numpy(encoder.images(list(backbone.generate(conditions, SAMPLING)))) * taste).sum(1)


def test_what_is_drawn_scores_more(setting):
    backbone, encoder, conditions, texts, taste = setting
    found = refine(
        backbone, encoder, conditions, texts, lambda e: (e * taste).sum(1), SAMPLING, Refinement(steps=6)
    )
    gain = scores(setting, found, taste) - scores(setting, conditions, taste)
    assert (gain > 0).all() and gain.mean() > 0.5


def test_a_request_does_not_depend_on_its_batch(setting):
    backbone, encoder, conditions, texts, taste = setting
    settings = Refinement(steps=3)
    together = refine(backbone, encoder, conditions, texts, lambda e: (e * taste).sum(1), SAMPLING, settings)
    (alone,) = refine(
        backbone, encoder, conditions[1:2], texts[1:2], lambda e: (e * taste[1:2]).sum(1), SAMPLING, settings
    )
    np.testing.assert_allclose(alone.image_embedding, together[1].image_embedding, atol=2e-3)


def test_the_hinge_keeps_the_items_text(setting):
    """Without it a taste that points away from the text takes the likeness down; with it much less."""
    backbone, encoder, conditions, texts, _ = setting
    away = lambda e: -10 * torch.nn.functional.cosine_similarity(e, texts)  # noqa: E731

    def likeness(weight: float) -> float:
        found = refine(
            backbone, encoder, conditions, texts, away, SAMPLING, Refinement(steps=6, content=weight)
        )
        seen = torch.from_numpy(encoder.images(list(backbone.generate(found, SAMPLING))))
        return torch.nn.functional.cosine_similarity(seen, texts).mean().item()

    assert likeness(100.0) > likeness(0.0) + 0.02


def test_a_start_that_cannot_be_bettered_stays(setting):
    backbone, encoder, conditions, texts, _ = setting
    flat = lambda e: 0.0 * e.sum(1)  # noqa: E731
    found = refine(backbone, encoder, conditions, texts, flat, SAMPLING, Refinement(steps=2))
    for before, after in zip(conditions, found, strict=True):
        np.testing.assert_array_equal(before.image_embedding, after.image_embedding)
    assert refine(backbone, encoder, conditions, texts, flat, SAMPLING, Refinement(steps=0)) == conditions
