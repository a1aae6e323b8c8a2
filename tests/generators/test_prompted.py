"""stable_diffusion and ip_adapter: what they are drawn from, and the contract of every generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contract import REQUESTS, GeneratorContract, ask, assert_same_images, pixels
from pydantic import ValidationError

from generators import ip_adapter_mean, stable_diffusion
from generators.ip_adapter_mean import IPAdapterMean
from generators.stable_diffusion import Openjourney, StableDiffusion
from recgen.diffusion.backbone import Sampling
from recgen.diffusion.conditions import Condition

DECODE = {"steps": 2, "guidance_scale": 2.0}


class TestStableDiffusion(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return StableDiffusion(stable_diffusion.Settings(**{"decode": DECODE, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


class TestOpenjourney(TestStableDiffusion):
    @staticmethod
    def make(backbone, encoder, **changes):
        return Openjourney(
            stable_diffusion.OpenjourneySettings(**{"decode": DECODE, **changes}), backbone, encoder
        )


class TestIPAdapter(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return IPAdapterMean(ip_adapter_mean.Settings(**{"decode": DECODE, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


class TestIPAdapterWithoutText(TestIPAdapter):
    @staticmethod
    def make(backbone, encoder, **changes):
        return IPAdapterMean(
            ip_adapter_mean.Settings(**{"decode": DECODE, "prompt": "none", **changes}), backbone, encoder
        )


def test_the_prompt_is_the_items_text(backbone, encoder, data) -> None:
    generator = StableDiffusion(
        stable_diffusion.Settings(
            template="a poster, {text}, {odd}", negative_prompt="blurred", decode=DECODE
        ),
        backbone,
        encoder,
    )
    request = ask("u1", "i7")
    condition, recipe = generator.drawing(request, data)
    assert (condition.prompt, condition.negative_prompt) == ("a poster, a thing number 7, {odd}", "blurred")
    assert condition.seed == request.seed and condition.image_embedding is None
    (creative,) = generator.generate([request], data)
    (expected,) = backbone.generate([condition], Sampling(**DECODE))
    assert np.array_equal(np.asarray(creative.image), np.asarray(expected))
    shared = {"backbone": backbone.name, "precision": "float32", "decode": Sampling(**DECODE).model_dump()}
    assert creative.recipe == shared | recipe


def test_openjourney_has_its_own_checkpoint_and_words(backbone, encoder, data) -> None:
    settings = stable_diffusion.OpenjourneySettings()
    assert settings.checkpoint == "prompthero/openjourney"
    condition, _ = Openjourney(settings, backbone, encoder).drawing(ask("u1", "i7"), data)
    assert condition.prompt == "mdjrny-v4 style a thing number 7"


def test_who_asks_changes_nothing_for_stable_diffusion(backbone, encoder, data) -> None:
    generator = StableDiffusion(stable_diffusion.Settings(decode=DECODE), backbone, encoder)
    mine, yours = ask("u1", "i7"), replace(ask("u1", "i7"), user_id="u2", history=("i9",))
    a, b = pixels(list(generator.generate([mine, yours], data)))
    np.testing.assert_allclose(a, b, atol=1.01 / 255)


def test_the_image_condition_is_the_mean_of_the_histories_images(backbone, encoder, data) -> None:
    """i0 has no image, i3 occurs twice: a mean over what was liked, as often as it was liked."""
    generator = IPAdapterMean(ip_adapter_mean.Settings(decode=DECODE), backbone, encoder)
    request = ask("u1", "i7", ("i0", "i3", "i5", "i3"))
    condition, recipe = generator.drawing(request, data)
    expected = (2 * data.image_features[3] + data.image_features[5]) / 3
    np.testing.assert_allclose(condition.image_embedding, expected, rtol=1e-5, atol=1e-6)
    assert condition.image_embedding.dtype == np.float32
    assert recipe == {"prompt": "a thing number 7", "history_images": 3}


@pytest.mark.parametrize("history", [(), ("i0",)], ids=["no history", "history without an image"])
@pytest.mark.parametrize("prompt", ["text", "none"])
def test_without_a_liked_image_the_text_alone_remains(backbone, encoder, data, history, prompt) -> None:
    request = ask("u1", "i7", history)
    generator = IPAdapterMean(ip_adapter_mean.Settings(decode=DECODE, prompt=prompt), backbone, encoder)
    creatives = list(generator.generate([request], data))
    assert creatives[0].recipe["history_images"] == 0 and creatives[0].recipe["prompt"] == "a thing number 7"
    plain = StableDiffusion(stable_diffusion.Settings(decode=DECODE), backbone, encoder)
    assert_same_images(creatives, list(plain.generate([request], data)))


def test_without_text_the_item_does_not_matter(backbone, encoder, data) -> None:
    generator = IPAdapterMean(ip_adapter_mean.Settings(decode=DECODE, prompt="none"), backbone, encoder)
    one, other = ask("u1", "i7"), replace(ask("u1", "i7"), item_id="i8")
    a, b = pixels(list(generator.generate([one, other], data)))
    np.testing.assert_allclose(a, b, atol=1.01 / 255)
    assert generator.drawing(one, data)[0].prompt == ""


def test_scale_zero_is_stable_diffusion(backbone, encoder, data) -> None:
    decode = {**DECODE, "ip_adapter_scale": 0.0}
    adapted = IPAdapterMean(ip_adapter_mean.Settings(decode=decode), backbone, encoder)
    plain = StableDiffusion(stable_diffusion.Settings(decode=DECODE), backbone, encoder)
    assert_same_images(list(adapted.generate(REQUESTS[:3], data)), list(plain.generate(REQUESTS[:3], data)))
    full = IPAdapterMean(ip_adapter_mean.Settings(decode=DECODE), backbone, encoder)
    difference = pixels(list(full.generate(REQUESTS[:3], data))) - pixels(
        list(plain.generate(REQUESTS[:3], data))
    )
    assert np.abs(difference).mean() > 0.001


def test_requests_with_and_without_images_mix(backbone, encoder, data) -> None:
    generator = IPAdapterMean(ip_adapter_mean.Settings(decode=DECODE), backbone, encoder)
    mixed = [ask("u1", "i7"), ask("u2", "i8", ()), ask("u3", "i9")]
    together = list(generator.generate(mixed, data))
    assert_same_images(together, [next(iter(generator.generate([request], data))) for request in mixed])
    assert isinstance(generator.drawing(mixed[1], data)[0], Condition)


@pytest.mark.parametrize(
    "wrong", [{"template": "a poster of {txt}"}, {"prompt": "both"}, {"decode": {"scale": 1}}]
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        ip_adapter_mean.Settings(**wrong)
