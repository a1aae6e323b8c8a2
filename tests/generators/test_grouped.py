"""textual_inversion and dreambooth: groups of users, what others can load of what is learned, and that nothing shared changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from adapters import random_lora
from contract import REQUESTS, GeneratorContract, ask, assert_same_images, pixels
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from small_settings import DECODE, DREAMBOOTH, TEXTUAL_INVERSION

from generators import dreambooth, textual_inversion
from generators.common.clusters import Groups
from generators.common.denoising import denoising_losses, draw_noise
from generators.dreambooth import DreamBooth
from generators.dreambooth.generator import _put_on
from generators.textual_inversion import TextualInversion, Words, token
from recgen.core.errors import UserError
from recgen.data.simulation.attributes import MOTIFS, Attributes
from recgen.data.simulation.renderer import render
from recgen.data.types import RunData
from recgen.diffusion.backbone import Backbone, Sampling, load_backbone
from recgen.diffusion.conditions import Condition


@pytest.fixture(scope="module")
def data(data: RunData, tmp_path_factory) -> RunData:
    """The shared data with images on disk; i0 has none."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(4)
    for item in range(1, 30):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{item}.png")
    return replace(data, images=[None] + [folder / f"{n}.png" for n in range(1, 30)])


def inversion(backbone, encoder, **changes) -> TextualInversion:
    return TextualInversion(textual_inversion.Settings(**{**TEXTUAL_INVERSION, **changes}), backbone, encoder)


def booth(backbone, encoder, **changes) -> DreamBooth:
    return DreamBooth(dreambooth.Settings(**{**DREAMBOOTH, **changes}), backbone, encoder)


class TestTextualInversion(GeneratorContract):
    make = staticmethod(inversion)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


class TestDreamBooth(GeneratorContract):
    make = staticmethod(booth)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


def test_words_of_every_user_are_their_own(backbone, encoder, data: RunData, tmp_path) -> None:
    generator = inversion(backbone, encoder, clusters=None, max_steps=1)
    generator.fit(data)
    generator.save(tmp_path)
    loaded = inversion(backbone, encoder, clusters=None)
    loaded.load(tmp_path)
    requests = [replace(REQUESTS[0], user_id=user) for user in ("u1", "u2", "u11", "nobody")]
    mine, yours, dislikes, nobody = creatives = list(loaded.generate(requests, data))
    assert_same_images(creatives, list(generator.generate(requests, data)))
    assert (
        mine.recipe["group"] != yours.recipe["group"]
        and nobody.recipe["group"] is dislikes.recipe["group"] is None
    )
    images = pixels(creatives)
    assert np.abs(images[0] - images[1]).mean() > 1e-3 and np.abs(images[2] - images[3]).max() <= 1.01 / 255


def test_without_a_like_nothing_is_learned_and_the_text_is_drawn(
    backbone, encoder, data: RunData, tmp_path
) -> None:
    nobody = replace(data, interactions=data.interactions.assign(like=False))
    for make in (inversion, booth):
        generator = make(backbone, encoder)
        generator.fit(nobody)
        generator.save(tmp_path / generator.name)
        generator.load(tmp_path / generator.name)
        (creative,) = generator.generate(REQUESTS[:1], nobody)
        assert creative.recipe["group"] is None and creative.recipe["prompt"] == "a thing number 1"


def stock(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def drawn(pipeline: StableDiffusionPipeline, prompt: str, seed: int) -> np.ndarray:
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(seed))
    (image,) = pipeline(
        prompt, num_inference_steps=2, guidance_scale=2.0, negative_prompt="", latents=latents
    ).images
    return np.asarray(image, dtype=np.float64) / 255


def test_a_stock_pipeline_loads_the_learned_words(
    backbone, encoder, data: RunData, tiny_diffusion: Path, tmp_path
) -> None:
    data = replace(
        data, texts=["a bc"] * 30
    )  # short enough for the tiny tokenizer's 16 places: nothing is cut
    generator = inversion(backbone, encoder)
    generator.fit(data)
    generator.save(tmp_path)
    (creative,) = generator.generate(REQUESTS[:1], data)
    pipeline, group = stock(tiny_diffusion), creative.recipe["group"]
    pipeline.load_textual_inversion(str(tmp_path), weight_name=f"style-{group:04d}.safetensors")
    assert token(group) in creative.recipe["prompt"]
    theirs = drawn(pipeline, creative.recipe["prompt"], REQUESTS[0].seed)
    np.testing.assert_allclose(pixels([creative])[0], theirs, atol=1.01 / 255)
    plain = drawn(stock(tiny_diffusion), data.texts[1], REQUESTS[0].seed)
    assert np.abs(theirs - plain).mean() > 1e-3, "the learned words must say something"


def test_long_texts_are_cut_and_learned_words_stay(backbone) -> None:
    words = Words(backbone, "a {text}, {style} b")
    ids, length = words.ids("x " * 500, 2), words.tokenizer.model_max_length
    rows = len(words.table)
    assert (
        len(ids) == length
        and ids[0] == words.tokenizer.bos_token_id
        and ids[-1] == words.tokenizer.eos_token_id
    )
    assert [i for i in ids if i >= rows] == [rows, rows + 1]
    short = words.ids("x", 2)
    assert len(short) == length and short[-1] == words.tokenizer.pad_token_id


def test_learned_words_say_what_words_of_the_table_say(backbone) -> None:
    """Vectors that are those of "b c", in the place of the learned ones, are the prompt "a, b c"."""
    words = Words(backbone, "{text}, {style}")
    vectors = words.table[words._ids("b c")]
    torch.testing.assert_close(
        words(["a"], vectors), backbone.embed_prompts(["a, b c"]), atol=1e-5, rtol=1e-4
    )


def test_a_stock_pipeline_loads_a_clusters_lora(
    backbone, encoder, data: RunData, tiny_diffusion: Path, tmp_path
) -> None:
    generator = booth(backbone, encoder)
    generator.fit(data)
    generator.save(tmp_path)
    (creative,) = generator.generate(REQUESTS[:1], data)
    pipeline = stock(tiny_diffusion)
    plain = drawn(pipeline, creative.recipe["prompt"], REQUESTS[0].seed)
    pipeline.load_lora_weights(tmp_path / f"cluster-{creative.recipe['group']:04d}")
    theirs = drawn(pipeline, creative.recipe["prompt"], REQUESTS[0].seed)
    np.testing.assert_allclose(pixels([creative])[0], theirs, atol=1.01 / 255)
    assert np.abs(theirs - plain).mean() > 1e-3, "the LoRA must change something"


@pytest.mark.parametrize("adapter", [True, False], ids=["with IP-Adapter", "without"])
def test_the_backbone_is_as_before_even_after_an_error(
    tiny_diffusion, tiny_adapter, encoder, data: RunData, adapter
) -> None:
    backbone = load_backbone(str(tiny_diffusion), str(tiny_adapter) if adapter else None)
    unet = backbone.pipeline.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    modules = [(name, type(module)) for name, module in unet.named_modules()]

    def check() -> None:
        assert [(name, type(module)) for name, module in unet.named_modules()] == modules
        assert list(unet.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
        assert not any(parameter.requires_grad for parameter in unet.parameters())

    def stop(what: str, done: int, total: int) -> None:
        raise InterruptedError

    generator = booth(backbone, encoder)
    with pytest.raises(InterruptedError):
        generator.fit(data, progress=stop)
    check()
    generator.fit(data)
    check()
    images = generator.generate(REQUESTS, data)
    next(images)
    images.close()
    check()


def test_a_clusters_lora_and_lcms_go_together_and_neither_stays(
    tiny_diffusion, tiny_adapter, encoder, data, tmp_path
) -> None:
    lora = str(random_lora(tiny_diffusion, tmp_path))
    backbone = load_backbone(str(tiny_diffusion), str(tiny_adapter), lcm_lora=lora)
    lcm, slow = Sampling(steps=2, sampler="lcm", guidance_scale=1.0), Sampling(**DECODE)

    def plain() -> list[np.ndarray]:
        return [
            np.asarray(next(backbone.generate([Condition(1, "a b")], sampling))) for sampling in (lcm, slow)
        ]

    before, generator = plain(), booth(backbone, encoder, decode=lcm)
    generator.fit(data)
    (creative,) = generator.generate(REQUESTS[:1], data)
    assert all(np.array_equal(a, b) for a, b in zip(before, plain(), strict=True))
    assert list(backbone.pipeline.unet.peft_config) == ["lcm"]
    pipeline = stock(tiny_diffusion)
    generator.save(tmp_path)
    pipeline.load_lora_weights(tmp_path / f"cluster-{creative.recipe['group']:04d}", adapter_name="mine")
    pipeline.load_lora_weights(lora, adapter_name="lcm")
    pipeline.set_adapters(["mine", "lcm"])
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    noise = torch.Generator().manual_seed(REQUESTS[0].seed)
    latents = torch.randn((1, 4, 16, 16), generator=noise)
    more = {"num_inference_steps": 2, "guidance_scale": 1.0, "latents": latents, "generator": noise}
    theirs = np.asarray(pipeline(creative.recipe["prompt"], **more).images[0], dtype=np.float64) / 255
    np.testing.assert_allclose(pixels([creative])[0], theirs, atol=1.01 / 255)


def test_adapters_of_another_unet_are_refused(backbone, encoder, data: RunData) -> None:
    generator = booth(backbone, encoder)
    generator.fit(data)
    generator.loras = [
        {name: value.new_zeros(value.shape[0] + 1, value.shape[1]) for name, value in lora.items()}
        for lora in generator.loras
    ]
    with pytest.raises(UserError, match=r"recgen.backbone.*cluster-000"):
        list(generator.generate(REQUESTS[:1], data))
    assert not getattr(backbone.pipeline.unet, "peft_config", {})


def test_the_prior_is_learned_beside_the_images(backbone, encoder, data: RunData) -> None:
    settings = {"template": "{text} in sks style", "prior_images": 4}
    without, with_prior = (
        booth(backbone, encoder, **settings),
        booth(backbone, encoder, **settings, prior_weight=1.0),
    )
    for generator in (without, with_prior):
        generator.fit(data)
    first = next(iter(without.loras[0]))
    assert not torch.equal(without.loras[0][first], with_prior.loras[0][first])
    assert with_prior._prior(data)[0][0].startswith("a thing number"), "the prior is of the text alone"


def test_training_learns_the_style_of_what_was_liked(encoder, tmp_path) -> None:
    """Six contents in one style, whose texts name the content alone: on the shipped backbone what is learned helps to denoise."""
    looks = [Attributes(motif, 3, 4, 2) for motif in range(6)]
    for number, look in enumerate(looks):
        render(look, number).save(tmp_path / f"{number}.png")
    data = RunData(
        ["u"], list("abcdef"), [MOTIFS[look.motif] for look in looks], [tmp_path / f"{n}.png" for n in range(6)],
        np.ones((6, 64), np.float32), np.ones((6, 64), np.float32),
        pd.DataFrame([{"user": 0, "item": n, "like": True, "timestamp": float(n), "split": "train"} for n in range(6)]), 3,
    )  # fmt: skip
    backbone = load_backbone("demo-sd")
    clean = backbone.encode_images([Image.open(path).convert("RGB") for path in data.images]).repeat(
        2, 1, 1, 1
    )
    noise, timesteps = draw_noise(backbone, clean.shape[1:], 0, "test", [("", str(n)) for n in range(12)])

    def loss(condition: torch.Tensor) -> float:
        with torch.no_grad():
            return (
                denoising_losses(backbone, condition.repeat(2, 1, 1), clean, noise, timesteps).mean().item()
            )

    settings = {"clusters": 1, "max_steps": 60, "images_per_step": 6}
    words = inversion(backbone, encoder, **settings, learning_rate=0.15)
    words.fit(data)
    start = words.words.initial("style").repeat(2, 1)
    assert loss(words.words(data.texts, words.vectors[0])) < 0.97 * loss(words.words(data.texts, start))

    layers = booth(backbone, encoder, **settings, learning_rate=3e-3)
    layers.fit(data)
    plain = loss(backbone.embed_prompts(data.texts))
    with _put_on(backbone, {"a": layers.loras[0]}), backbone.loras("a"):
        assert loss(backbone.embed_prompts(data.texts)) < 0.97 * plain
    assert loss(backbone.embed_prompts(data.texts)) == plain
    for generator in (words, layers):
        (curve,) = generator.curves.values()
        assert curve[0][0] == 0 and curve[-1][1] < 0.97 * curve[0][1], (
            "the report's curve is at the same noises throughout"
        )


@pytest.mark.parametrize(
    "kind, wrong",
    [
        (textual_inversion.Settings, {"template": "{text}"}),
        (textual_inversion.Settings, {"template": "{style}"}),
        (textual_inversion.Settings, {"initial": " "}),
        (dreambooth.Settings, {"clusters": None}),
        (dreambooth.Settings, {"prior_weight": 1.0}),
        (dreambooth.Settings, {"template": "a poster"}),
    ],
)
def test_settings_are_checked(kind, wrong: dict) -> None:
    with pytest.raises(ValidationError):
        kind(**wrong)


def test_what_is_not_ours_is_not_loaded(backbone: Backbone, encoder, data: RunData, tmp_path) -> None:
    for make in (inversion, booth):
        with pytest.raises(UserError, match="groups.safetensors"):
            make(backbone, encoder).load(tmp_path)
    generator = inversion(backbone, encoder)
    generator.fit(data)
    generator.save(tmp_path)
    assert load_file(tmp_path / "style-0000.safetensors").keys() == {"<style-0>"}
    with pytest.raises(UserError, match="vectors of other sizes"):
        inversion(backbone, encoder, vectors=3).load(tmp_path)
    assert isinstance(Groups.load(tmp_path, "x"), Groups)


def test_requests_of_all_clusters_mix(backbone, encoder, data: RunData) -> None:
    generator = booth(backbone, encoder)
    generator.fit(data)
    mixed = [
        ask("u1", "i7", ("i3",)),
        ask("u2", "i8", ()),
        ask("u3", "i9", ("i20",)),
        ask("u4", "i9", ("i3",)),
    ]
    together = list(generator.generate(mixed, data))
    assert_same_images(together, [next(iter(generator.generate([request], data))) for request in mixed])


def test_words_are_learned_beside_weights_of_sixteen_bits(
    tiny_diffusion: Path, encoder, data: RunData
) -> None:
    generator = inversion(load_backbone(str(tiny_diffusion), precision="bfloat16"), encoder)
    generator.fit(data)
    (creative,) = generator.generate(REQUESTS[:1], data)
    assert creative.recipe["precision"] == "bfloat16" and np.asarray(creative.image).std() > 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lora_trains_in_float32_beside_weights_of_sixteen_bits(
    tiny_diffusion: Path, encoder, data: RunData, precision: str
) -> None:
    generator = booth(load_backbone(str(tiny_diffusion), precision=precision), encoder, learning_rate=1e-3)
    generator.fit(data)
    curve = [loss for series in generator.curves.values() for _, loss in series]
    values = torch.cat([value.flatten() for lora in generator.loras for value in lora.values()])
    assert np.isfinite(curve).all() and torch.isfinite(values).all()
    moved = [
        value.abs().max()
        for lora in generator.loras
        for key, value in lora.items()
        if "lora_B" in key or ".up." in key
    ]
    assert moved and all(0 < value < 0.01 for value in moved), "from zero, two steps of 1e-3"
    (creative,) = generator.generate(REQUESTS[:1], data)
    assert creative.recipe["precision"] == precision and np.asarray(creative.image).std() > 0
