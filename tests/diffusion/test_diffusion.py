"""The wrapper around diffusers: each image is its own condition's, whatever it is batched with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recgen.assets import FOLDER
from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError
from recgen.data.simulation.attributes import Attributes, caption
from recgen.data.simulation.renderer import render
from recgen.diffusion.backbone import Sampling, load_backbone
from recgen.diffusion.conditions import Condition
from recgen.features.encoders import load_encoder

prepare_torchvision()
from diffusers import DDIMScheduler, StableDiffusionPipeline  # noqa: E402

SAMPLING = Sampling(steps=3, guidance_scale=2.0)
LOOKS = [
    Attributes(3, 0, 4, 1),
    Attributes(14, 5, 0, 3),
    Attributes(11, 8, 7, 5),
    Attributes(15, 3, 3, 0),
    Attributes(9, 9, 1, 4),
]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo-sd", "demo-ip-adapter")


@pytest.fixture(scope="module")
def embeddings():
    return load_encoder("demo-clip").images([render(look, i) for i, look in enumerate(LOOKS)])


@pytest.fixture(scope="module")
def conditions(embeddings):
    return [
        Condition(seed=i, prompt=caption(LOOKS[-i]) if i % 2 else "", image_embedding=row)
        for i, row in enumerate(embeddings)
    ]


def pixels(images) -> np.ndarray:
    return np.stack([np.asarray(p, dtype=np.int16) for p in images])


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal but for rounding to whole levels: one level of 255, on fewer than one value in five hundred."""
    assert np.abs(a - b).max() <= 1
    assert (a != b).mean() < 0.002


def test_batched_equals_one_at_a_time(backbone, conditions):
    together = pixels(backbone.generate(conditions, SAMPLING))
    alone = pixels(next(backbone.generate([c], SAMPLING)) for c in conditions)
    assert_same(together, alone)
    assert np.abs(together[0] - together[1]).mean() > 10, "different conditions must give different images"


def test_order_and_batch_size_do_not_matter(backbone, conditions):
    forwards = pixels(backbone.generate(conditions, SAMPLING))
    backwards = pixels(backbone.generate(conditions[::-1], SAMPLING.model_copy(update={"batch_size": 2})))
    assert_same(forwards, backwards[::-1])


def test_equals_a_stock_diffusers_pipeline(backbone, conditions):
    """One row through the stock pipeline and the stock IP-Adapter loader, from the same noise."""
    stock = StableDiffusionPipeline.from_pretrained(
        FOLDER / "demo-sd", dtype=torch.float32, safety_checker=None
    )
    stock.load_ip_adapter(
        str(FOLDER / "demo-ip-adapter"),
        subfolder="",
        weight_name="ip-adapter.safetensors",
        image_encoder_folder=None,
    )
    stock.set_ip_adapter_scale(1.0)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    embedding = torch.from_numpy(conditions[1].image_embedding)[None, None]
    image = stock(
        prompt=conditions[1].prompt,
        num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance_scale,
        ip_adapter_image_embeds=[torch.cat([torch.zeros_like(embedding), embedding])],
        latents=torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(conditions[1].seed)),
    ).images
    assert_same(pixels(image), pixels(backbone.generate(conditions, SAMPLING))[1:2])


def test_adapter_scale_zero_is_no_image_condition(backbone, conditions):
    off = SAMPLING.model_copy(update={"ip_adapter_scale": 0.0})
    plain = [Condition(seed=c.seed, prompt=c.prompt) for c in conditions]
    assert_same(pixels(backbone.generate(conditions, off)), pixels(backbone.generate(plain, SAMPLING)))
    without_adapter = load_backbone("demo-sd")
    assert_same(pixels(without_adapter.generate(plain, SAMPLING)), pixels(backbone.generate(plain, SAMPLING)))


def test_rows_with_and_without_an_image_keep_their_order(backbone, conditions):
    mixed = [conditions[0], Condition(seed=7, prompt="a heart"), conditions[2]]
    alone = pixels(next(backbone.generate([c], SAMPLING)) for c in mixed)
    assert_same(pixels(backbone.generate(mixed, SAMPLING)), alone)


def test_the_seed_decides_the_noise(backbone):
    a, b, again = pixels(backbone.generate([Condition(seed=s, prompt="a star") for s in (1, 2, 1)], SAMPLING))
    assert_same(a, again)
    assert np.abs(a - b).mean() > 2


def test_samplers_and_guidance_change_the_image(backbone, conditions):
    ddim = pixels(backbone.generate(conditions[:1], SAMPLING))
    dpm = pixels(backbone.generate(conditions[:1], SAMPLING.model_copy(update={"sampler": "dpm++2m"})))
    unguided = pixels(backbone.generate(conditions[:1], SAMPLING.model_copy(update={"guidance_scale": 1.0})))
    assert np.abs(ddim - dpm).mean() > 0.5
    assert np.abs(ddim - unguided).mean() > 0.5


def test_embeddings_of_the_wrong_width_are_named(backbone):
    with pytest.raises(UserError, match="recgen.ip_adapter.*width 5"):
        list(backbone.generate([Condition(seed=0, image_embedding=np.zeros(5, np.float32))], SAMPLING))


def test_a_backbone_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # its variable was read long ago
    with pytest.raises(UserError, match=r"recgen.backbone.*nobody/nothing"):
        load_backbone("nobody/nothing")
    with pytest.raises(UserError, match=r"recgen.ip_adapter"):
        load_backbone("demo-sd", str(tmp_path))
