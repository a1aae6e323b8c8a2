"""Every installed generator on Stable Diffusion XL: it fits and draws there, or it says that it cannot before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_settings as small
from adapters import random_adapter
from contract import REQUESTS, assert_same_images
from PIL import Image
from safetensors.torch import load_file

from recgen.config import plugins
from recgen.data.types import RunData
from recgen.diffusion.backbone import Backbone, load_backbone
from recgen.diffusion.weights import FAMILIES
from recgen.features.language import LanguageModel

PRIOR = {**small.REBECA, "max_steps": 2, "decode": small.DECODE}
SMALL: dict[str, dict[str, Any]] = {
    "stable_diffusion": {"decode": small.DECODE},
    "openjourney": {"decode": small.DECODE},
    "ip_adapter_mean": {"decode": small.DECODE},
    "dreambooth": {**small.DREAMBOOTH, "clusters": 2, "max_steps": 1},
    **dict.fromkeys(("rebeca", "t0", "t1", "t2", "noue"), PRIOR),
    "ragar": {**small.RAGAR, "beta": 0, "max_steps": 2},
    "pmg": {**small.PMG, "max_steps": 2},
    "iamg": {**small.IAMG, "max_steps": 2},
    "taste": small.TASTE,
    "preferred": small.PREFERRED,
}
WORDS = ("red", "blue", "dots", "bars", "star", "key")


@pytest.fixture(scope="module")
def xl(tiny_xl: Path, tmp_path_factory) -> Backbone:
    return load_backbone(str(tiny_xl), str(random_adapter(tiny_xl, tmp_path_factory.mktemp("adapter"))))


@pytest.fixture(scope="module")
def data(data: RunData, tmp_path_factory) -> RunData:
    """The shared data with everything that any generator needs."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(4)
    for item in range(1, 30):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{item}.png")
    words = [()] + [tuple(rng.choice(WORDS, 3, replace=False)) for _ in range(1, 30)]
    features = rng.normal(size=(30, 16)).astype(np.float32)
    features[0] = np.nan
    return replace(
        data, images=[None] + [folder / f"{n}.png" for n in range(1, 30)], keywords=words, tags=words,
        captions=[" ".join(each) for each in words], caption_features=features, foreground_features=features,
    )  # fmt: skip


def installed(family: str) -> list[str]:
    """Return our own generators that draw with a family; other tests install packages of their own in the same process."""
    ours = [
        name
        for name in plugins.names(plugins.GENERATORS)
        if plugins.target(plugins.GENERATORS, name).startswith("generators.")
    ]
    return [name for name in ours if family in plugins.load(plugins.GENERATORS, name, "").Config.families]


def test_what_is_said_to_draw_with_xl_is_tried() -> None:
    assert set(installed("stable-diffusion-xl")) == set(SMALL)
    assert set(installed("stable-diffusion")) - set(SMALL) == {"textual_inversion"}
    assert {"stable-diffusion", "stable-diffusion-xl"} == FAMILIES


@pytest.mark.parametrize("name", SMALL)
def test_it_fits_and_draws(name: str, xl: Backbone, encoder, tiny_llm: Path, data: RunData) -> None:
    kind = plugins.load(plugins.GENERATORS, name, "")
    generator = kind(kind.Config(**SMALL[name]), xl, encoder, LanguageModel(str(tiny_llm)))
    generator.fit(data)
    creatives = list(generator.generate(REQUESTS[:2], data))
    assert [creative.image.size for creative in creatives] == [(32, 32)] * 2
    assert_same_images(creatives[1:], list(generator.generate(REQUESTS[1:2], data)))


@pytest.fixture(scope="module")
def halved(tiny_xl: Path, tmp_path_factory) -> Backbone:
    """The same pipeline, with weights in 16 bits."""
    adapter = str(random_adapter(tiny_xl, tmp_path_factory.mktemp("adapter")))
    return load_backbone(str(tiny_xl), adapter, precision="bfloat16")


@pytest.mark.parametrize("name", SMALL)
def test_it_fits_and_draws_in_sixteen_bits(
    name: str, halved: Backbone, encoder, tiny_llm: Path, data: RunData, tmp_path
) -> None:
    kind = plugins.load(plugins.GENERATORS, name, "")
    generator = kind(kind.Config(**SMALL[name]), halved, encoder, LanguageModel(str(tiny_llm)))
    generator.fit(data)
    generator.save(tmp_path)
    again = kind(kind.Config(**SMALL[name]), halved, encoder, LanguageModel(str(tiny_llm)))
    again.load(tmp_path)
    creatives = list(again.generate(REQUESTS[:2], data))
    assert [creative.recipe["precision"] for creative in creatives] == ["bfloat16"] * 2
    assert all(np.asarray(creative.image).std() > 0 for creative in creatives), (
        "NaN latents are one flat colour"
    )
    saved = [tensor for file in tmp_path.rglob("*.safetensors") for tensor in load_file(file).values()]
    assert all(tensor.isfinite().all() for tensor in saved)
