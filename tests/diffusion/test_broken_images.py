"""Images that are no images are errors that name their request, never black files that are judged."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.types import Request
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import BrokenImageError, Condition
from recgen.diffusion.sampling import Sampling
from recgen.stages.controls import ControlDrawer
from recgen.stages.generate import naming_broken

SAMPLING = Sampling(steps=2, guidance_scale=2.0)
CONDITIONS = [Condition(11, "a"), Condition(12, "b"), Condition(13, "c")]


@pytest.fixture
def backbone(tiny_diffusion):
    return load_backbone(str(tiny_diffusion))


def test_a_network_of_nan_draws_nothing(backbone):
    with torch.no_grad():
        backbone.pipeline.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(BrokenImageError, match="not finite numbers, in float32") as raised:
        list(backbone.generate(CONDITIONS, SAMPLING))
    assert raised.value.seed == 11


def test_only_the_broken_image_of_a_batch_is_named(backbone):
    pixels = torch.rand(3, 3, 8, 8)
    pixels[1, 0, 2, 3] = torch.inf
    with pytest.raises(BrokenImageError) as raised:
        backbone._checked(pixels, [condition.seed for condition in CONDITIONS])
    assert raised.value.seed == 12


def test_an_image_of_one_colour_is_none(backbone):
    pixels = torch.rand(3, 3, 8, 8)
    pixels[2] = 0.0
    with pytest.raises(BrokenImageError, match="one colour only") as raised:
        backbone._checked(pixels, [condition.seed for condition in CONDITIONS])
    assert raised.value.seed == 13


def test_the_message_names_the_request():
    requests = [Request("u1", "i1", 11), Request("u2", "i9", 12)]
    with pytest.raises(UserError) as raised, naming_broken("ragar", requests):
        raise BrokenImageError(12, "pixels that are not finite numbers, in float16")
    message = str(raised.value)
    assert (
        "generator ragar, user 'u2', item 'i9'" in message and "float16" in message and "precision" in message
    )


def test_a_control_that_draws_a_broken_image_says_so_too():
    drawer = ControlDrawer(Mock(), "control.placebo")
    drawer.__dict__["_reward"] = None
    drawer.__dict__["_control"] = Mock(generate=Mock(side_effect=BrokenImageError(12, "one colour only")))
    with pytest.raises(
        UserError, match=r"control\.placebo, user 'u1', item 'i1': found an image of one colour only"
    ):
        drawer.draw([Request("u1", "i1", 12)])


def test_many_images_are_encoded_in_blocks_with_the_same_latents(backbone, monkeypatch):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(5)]
    together = backbone.encode_images(images)
    monkeypatch.setattr("recgen.diffusion.backbone._PIXELS_AT_ONCE", 2 * backbone.image_size**2)
    seen = []
    encode = backbone.pipeline.vae.encode
    monkeypatch.setattr(
        backbone.pipeline.vae, "encode", lambda pixels: seen.append(len(pixels)) or encode(pixels)
    )
    torch.testing.assert_close(backbone.encode_images(images), together, atol=1e-5, rtol=1e-5)
    assert seen == [2, 2, 1]
