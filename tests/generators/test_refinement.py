"""Conditions moved uphill draw images that score more, one by one, and keep their content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from generators.common.refinement import refine
from generators.common.settings import Refinement
from generators.taste import Settings, Taste
from generators.taste.trust import Trust
from recgen.core.errors import UserError
from recgen.data.types import Request
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import Condition
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


def test_an_item_without_a_text_is_refined_too(setting):
    backbone, encoder, conditions, texts, taste = setting
    texts = texts.clone()
    texts[1] = torch.nan
    found = refine(
        backbone, encoder, conditions, texts, lambda e: (e * taste).sum(1), SAMPLING, Refinement(steps=3)
    )
    moved = [
        not np.array_equal(a.image_embedding, b.image_embedding)
        for a, b in zip(conditions, found, strict=True)
    ]
    assert all(moved) and all(np.isfinite(each.image_embedding).all() for each in found)


def test_a_start_that_cannot_be_bettered_stays(setting):
    backbone, encoder, conditions, texts, _ = setting
    flat = lambda e: 0.0 * e.sum(1)  # noqa: E731
    found = refine(backbone, encoder, conditions, texts, flat, SAMPLING, Refinement(steps=2))
    for before, after in zip(conditions, found, strict=True):
        np.testing.assert_array_equal(before.image_embedding, after.image_embedding)
    assert refine(backbone, encoder, conditions, texts, flat, SAMPLING, Refinement(steps=0)) == conditions


class Linear:
    """A reward whose score is one direction of the image embedding."""

    def __init__(self, data, slope: bool = True) -> None:
        self.data, self.slope = data, slope

    def score_all(self, users, items):
        rows = [self.data.item_rows[item] for item in items]
        return torch.from_numpy(self.data.image_features[rows, 0]).float().repeat(len(users), 1)

    def unseen(self):
        import pandas as pd

        rng = np.random.default_rng(1)
        users, items = rng.integers(0, 9, 400), rng.integers(1, 30, 400)
        likes = self.data.image_features[items, 0] + rng.normal(size=400) > 1
        tokens = {
            "user_id": [self.data.user_ids[u] for u in users],
            "item_id": [self.data.item_ids[i] for i in items],
        }
        return pd.DataFrame({**tokens, "like": likes})

    def differentiable(self, users, items):
        return (lambda embeddings: embeddings[:, 0]) if self.slope else None


def believed(generator) -> None:
    """Make a fitted taste believe the reward about each user, and nothing else."""
    belief = replace(generator.learned.belief, trust=Trust(1.0, 0.0, 0.0, 0.0, 1))
    generator._learned, generator._asked = replace(generator.learned, belief=belief), None


def test_taste_refines_what_it_shows(backbone, encoder, data):
    """The drawn images score more on the reward's own direction than those that are not refined."""
    reward = Linear(data)
    small = {"show": "image", "keep": None, "decode": {"steps": 2, "guidance_scale": 2.0}}
    requests = [Request(f"u{n}", f"i{n + 1}", 40 + n) for n in range(4)]
    scores = []
    for steps in (0, 8):
        generator = Taste(
            Settings(**small, refine={"steps": steps, "last": 2, "rate": 0.2, "content": 0.0}),
            backbone,
            encoder,
        )
        generator.fit(data, reward)
        believed(generator)
        images = [creative.image for creative in generator.generate(requests, data, reward=reward)]
        scores.append(encoder.images(images)[:, 0])
    assert (scores[1] > scores[0]).mean() >= 0.75 and scores[1].mean() > scores[0].mean()


def test_a_reward_without_a_gradient_is_refused(backbone, encoder, data):
    generator = Taste(Settings(show="image", keep=None, refine={"steps": 1}), backbone, encoder)
    generator.fit(data, Linear(data))
    believed(generator)
    with pytest.raises(UserError, match=r"recgen.taste.refine.*Verifier or VBPR"):
        list(generator.generate([Request("u1", "i2", 3)], data, reward=Linear(data, slope=False)))
