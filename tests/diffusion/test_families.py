"""Stable Diffusion 2 and XL, and the sampler lcm, through the same wrapper: what a stock pipeline draws, whatever the batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import random_adapter, random_lora
from diffusers import (
    DDIMScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from recgen.core.errors import UserError
from recgen.diffusion.backbone import Sampling, load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.weights import family

SAMPLING = Sampling(steps=2, guidance_scale=2.0)
LCM = Sampling(steps=3, sampler="lcm", guidance_scale=1.5)


def pixels(images) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.float64) / 255 for image in images])


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal to 1e-4 but for rounding to whole levels."""
    assert np.abs(a - b).max() <= 1 / 255 + 1e-9 and (np.abs(a - b) > 1e-4).mean() < 0.005


def drawn(
    pipeline, prompt: str, seed: int, scheduler=DDIMScheduler, sampling: Sampling = SAMPLING, **more
) -> np.ndarray:
    """One image by a stock pipeline, from the same noise."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    noise = torch.Generator().manual_seed(seed)
    more |= {"latents": torch.randn((1, 4, 16, 16), generator=noise), "generator": noise}
    return pixels(
        pipeline(
            prompt, num_inference_steps=sampling.steps, guidance_scale=sampling.guidance_scale, **more
        ).images
    )


@pytest.fixture(scope="module")
def xl_adapter(tiny_xl: Path, tmp_path_factory) -> Path:
    return random_adapter(tiny_xl, tmp_path_factory.mktemp("xl adapter"))


@pytest.fixture(scope="module")
def xl(tiny_xl: Path, xl_adapter: Path):
    return load_backbone(str(tiny_xl), str(xl_adapter))


@pytest.fixture(scope="module")
def conditions() -> list[Condition]:
    rng = np.random.default_rng(0)
    words = ("a red star", "", "a key", "a kite on a navy ground")
    return [
        Condition(n, word, "blue" if n == 2 else "", rng.normal(size=16).astype(np.float32))
        for n, word in enumerate(words)
    ]


def test_families_are_told_by_the_index(tiny_diffusion: Path, tiny_xl: Path) -> None:
    assert family(str(tiny_diffusion)) == family("demo-sd") == "stable-diffusion"
    assert family(str(tiny_xl)) == "stable-diffusion-xl"


def test_a_pipeline_of_another_family_is_named(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(UserError, match=r"recgen.backbone.*a FluxPipeline.*StableDiffusionXLPipeline"):
        load_backbone(str(tmp_path))


def test_xl_batched_equals_one_at_a_time(xl, conditions) -> None:
    together = pixels(xl.generate(conditions, SAMPLING))
    assert_same(together, pixels(next(xl.generate([condition], SAMPLING)) for condition in conditions))
    assert_same(
        together[::-1], pixels(xl.generate(conditions[::-1], SAMPLING.model_copy(update={"batch_size": 3})))
    )
    assert np.abs(together[0] - together[2]).mean() > 0.01
    assert np.abs(pixels(xl.generate([Condition(0, "a red star")], SAMPLING))[0] - together[0]).mean() > 0.001


@pytest.mark.parametrize(
    "zeros", [True, False], ids=["no negative is zero", "no negative is the empty prompt"]
)
def test_xl_equals_the_stock_pipeline(tiny_xl: Path, zeros: bool) -> None:
    stock = StableDiffusionXLPipeline.from_pretrained(tiny_xl, dtype=torch.float32, add_watermarker=False)
    backbone = load_backbone(str(tiny_xl))
    for pipeline in (stock, backbone.pipeline):
        pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    plain, negative = Condition(4, "a red star"), Condition(5, "a key", "blue")
    ours = pixels(backbone.generate([plain, negative], SAMPLING))
    nothing = None if zeros else ""
    assert_same(ours[:1], drawn(stock, "a red star", 4, negative_prompt=nothing))
    assert_same(ours[1:], drawn(stock, "a key", 5, negative_prompt="blue"))


def test_xl_trains_against_the_conditions_it_draws_with(xl) -> None:
    """What `predict` gives the UNet is what the stock pipeline gives it at the same time and size."""
    seen: list[dict] = []
    hook = xl.pipeline.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    try:
        tokens, pooled = xl.embed_prompts(["a key"]), xl.pool_prompts(["a key"])
        xl.predict(torch.zeros(1, 4, 16, 16), torch.tensor([1]), tokens, pooled)
        list(xl.generate([Condition(1, "a key")], Sampling(steps=1, guidance_scale=1.0)))
    finally:
        hook.remove()
    ours, theirs = (kwargs["added_cond_kwargs"] for kwargs in seen)
    torch.testing.assert_close(ours["time_ids"], theirs["time_ids"])
    torch.testing.assert_close(ours["text_embeds"], theirs["text_embeds"])


def test_stable_diffusion_2_equals_the_stock_pipeline(tiny_diffusion: Path, tmp_path: Path) -> None:
    """Velocity prediction, linear projections and a text encoder with GELU, as in Stable Diffusion 2."""
    folder = tmp_path / "sd2"
    shutil.copytree(tiny_diffusion, folder)
    torch.manual_seed(1)
    shape = {
        **UNet2DConditionModel.load_config(folder / "unet"),
        "use_linear_projection": True,
        "attention_head_dim": [2, 4],
    }
    UNet2DConditionModel.from_config(shape).save_pretrained(folder / "unet")
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    text.hidden_act = "gelu"
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="v_prediction").save_pretrained(
        folder / "scheduler"
    )
    stock = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    ours = pixels(load_backbone(str(folder)).generate([Condition(3, "a b c")], SAMPLING))
    assert_same(ours, drawn(stock, "a b c", 3, negative_prompt=""))
    epsilon = pixels(load_backbone(str(tiny_diffusion)).generate([Condition(3, "a b c")], SAMPLING))
    assert np.abs(ours - epsilon).mean() > 0.01


@pytest.fixture(scope="module")
def lcm_lora(tiny_diffusion: Path, tmp_path_factory) -> Path:
    return random_lora(tiny_diffusion, tmp_path_factory.mktemp("lcm"))


@pytest.fixture(scope="module")
def fast(tiny_diffusion: Path, lcm_lora: Path, tmp_path_factory):
    adapter = random_adapter(tiny_diffusion, tmp_path_factory.mktemp("adapter"))
    return load_backbone(str(tiny_diffusion), str(adapter), lcm_lora=str(lcm_lora))


def test_lcm_equals_the_stock_pipeline_with_its_lora(fast, tiny_diffusion: Path, lcm_lora: Path) -> None:
    stock = StableDiffusionPipeline.from_pretrained(tiny_diffusion, dtype=torch.float32, safety_checker=None)
    without = drawn(stock, "a b", 6, LCMScheduler, LCM, negative_prompt="")
    stock.load_lora_weights(lcm_lora)
    ours = pixels(fast.generate([Condition(6, "a b")], LCM))
    assert_same(ours, drawn(stock, "a b", 6, LCMScheduler, LCM, negative_prompt=""))
    assert np.abs(ours - without).mean() > 0.001, "the LoRA must change something"


def test_lcm_draws_its_noise_per_image(fast, conditions) -> None:
    """In every step LCM adds noise: each image's comes from its own seed, not from the batch or from what was drawn before."""
    together = pixels(fast.generate(conditions, LCM))
    torch.rand(3)
    assert_same(together, pixels(next(fast.generate([condition], LCM)) for condition in conditions))


def test_lcms_lora_is_off_for_other_samplers(fast, tiny_diffusion: Path) -> None:
    plain = pixels(load_backbone(str(tiny_diffusion)).generate([Condition(6, "a b")], SAMPLING))
    before = pixels(fast.generate([Condition(6, "a b")], SAMPLING))
    list(fast.generate([Condition(6, "a b")], LCM))
    assert_same(before, plain)
    assert np.array_equal(before, pixels(fast.generate([Condition(6, "a b")], SAMPLING)))


def test_lcm_without_its_lora_is_refused(tiny_diffusion: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recgen.lcm_lora.*null"):
        list(load_backbone(str(tiny_diffusion)).generate([Condition(0)], LCM))
    with pytest.raises(UserError, match=r"recgen.lcm_lora"):
        load_backbone(str(tiny_diffusion), lcm_lora=str(tmp_path))


def test_an_lcm_lora_bears_little_guidance(fast) -> None:
    with pytest.raises(UserError, match=r"guidance_scale.*7.5.*1 to 2"):
        list(fast.generate([Condition(6, "a b")], Sampling(sampler="lcm")))
