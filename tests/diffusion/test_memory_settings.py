"""What needs less memory, and other types: the same images within stated tolerances, and what trains stays in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapters import random_adapter

from recgen.core.batching import Batcher
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.economy import Memory
from recgen.diffusion.sampling import Sampling

SAMPLING = Sampling(steps=2, guidance_scale=2.0)
CONDITIONS = [
    Condition(n, f"{word} star", image_embedding=np.full(16, 0.1 * n, np.float32))
    for n, word in enumerate("abcd")
]
MEAN, MOST = 0.012, 0.12
"""Of differences of pixels between 0 and 1: on average, and at any place. 16 bits have 8 or 11 of them for the fraction."""


def pixels(backbone, sampling: Sampling = SAMPLING) -> np.ndarray:
    images = backbone.generate(CONDITIONS, sampling)
    return np.stack([np.asarray(image, dtype=np.float64) / 255 for image in images])


@pytest.fixture(scope="module")
def adapter(tiny_diffusion, tmp_path_factory) -> str:
    return str(random_adapter(tiny_diffusion, tmp_path_factory.mktemp("adapter")))


@pytest.fixture(scope="module")
def expected(tiny_diffusion, adapter) -> np.ndarray:
    return pixels(load_backbone(str(tiny_diffusion), adapter))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_draw_the_same_images(tiny_diffusion, adapter, expected, precision):
    backbone = load_backbone(str(tiny_diffusion), adapter, precision=precision)
    difference = np.abs(pixels(backbone) - expected)
    assert 0 < difference.mean() < MEAN and difference.max() < MOST


def test_auto_is_float32_on_a_cpu(tiny_diffusion):
    assert load_backbone(str(tiny_diffusion), precision="auto").precision == "float32"


@pytest.mark.parametrize(
    "memory", [Memory(vae_slicing=False), Memory(gradient_checkpointing=True), Memory(offload="model")]
)
def test_what_saves_memory_changes_no_image(tiny_diffusion, adapter, expected, memory):
    backbone = load_backbone(str(tiny_diffusion), adapter, memory=memory)
    assert np.abs(pixels(backbone) - expected).max() <= 1 / 255 + 1e-9


def test_xl_keeps_its_vae_in_float32_where_the_card_asks_for_it(tiny_xl, tiny_diffusion):
    xl, other = (
        load_backbone(str(tiny_xl), precision="fp16"),
        load_backbone(str(tiny_diffusion), precision="fp16"),
    )
    assert (xl.pipeline.vae.dtype, xl.pipeline.unet.dtype) == (torch.float32, torch.float16)
    assert other.pipeline.vae.dtype == torch.float16
    (image,) = xl.generate([Condition(1, "a")], SAMPLING)
    assert xl.encode_images([image]).dtype == torch.float16


def test_memory_that_runs_out_halves_the_batch_and_changes_no_image(
    tiny_diffusion, adapter, expected, monkeypatch
):
    backbone, seen = load_backbone(str(tiny_diffusion), adapter), []
    whole = backbone._batch

    def little(rows, sampling, with_image):
        seen.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(rows, sampling, with_image)

    monkeypatch.setattr(backbone, "_batch", little)
    assert np.abs(pixels(backbone) - expected).max() <= 1 / 255 + 1e-9
    assert seen == [4, 2, 1, 1, 1, 1]


def test_compiled_blocks_draw_the_same_images(tiny_diffusion, adapter, expected):
    backbone = load_backbone(str(tiny_diffusion), adapter)
    backbone.pipeline.unet.compile_repeated_blocks(backend="eager", dynamic=True)  # C++ would take a minute
    assert np.abs(pixels(backbone) - expected).max() <= 1 / 255 + 1e-9


def test_a_compiled_backbone_is_one_whose_blocks_are(tiny_diffusion):
    blocks = load_backbone(str(tiny_diffusion), compiled=True).pipeline.unet.modules()
    compiled = [type(block).__name__ for block in blocks if block._compiled_call_impl is not None]
    assert set(compiled) == {"BasicTransformerBlock"}


def test_every_backbone_remembers_for_itself(tiny_diffusion):
    assert isinstance(load_backbone(str(tiny_diffusion)).batcher, Batcher)
