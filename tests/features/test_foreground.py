"""Foregrounds: against the renderer's true masks, on photographs' difficulties drawn by hand, and what is missing is named."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.renderer import render, render_mask
from recgen.features.foreground import CUTTERS, cut_out, plain_ground_mask

OVERLAP = 0.93
"""Floor of the mean intersection over union with the renderer's true masks."""


def overlap(found: Image.Image, true: Image.Image) -> float:
    a, b = (np.asarray(mask) > 127 for mask in (found, true))
    return (a & b).sum() / (a | b).sum()


def test_masks_agree_with_the_renderers_on_every_ground() -> None:
    rng = numpy_rng(0, "test/foreground")
    drawn = [(Attributes(*rng.integers(SIZES).tolist()), int(rng.integers(2**31))) for _ in range(90)]
    found = [overlap(plain_ground_mask(render(*each)), render_mask(*each)) for each in drawn]
    assert np.mean(found) >= OVERLAP and np.mean(np.array(found) > 0.75) >= 0.97, np.sort(found)[:5]
    by_pattern = [
        np.mean([v for v, (look, _) in zip(found, drawn, strict=True) if look.pattern == n])
        for n in range(SIZES[3])
    ]
    assert min(by_pattern) >= 0.9, by_pattern


@pytest.fixture
def photograph() -> tuple[Image.Image, Image.Image]:
    """A dark shirt with a light print on a grey ground with a shadow, noise and soft edges; and its true mask."""
    rng = np.random.default_rng(1)
    mask = Image.new("L", (300, 400))
    outline = [(60, 90), (240, 90), (260, 180), (220, 190), (220, 350), (80, 350), (80, 190), (40, 180)]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    shade = np.linspace(205, 190, 400)[:, None, None] * np.ones((400, 300, 3))
    thing = Image.new("RGB", (300, 400), (40, 60, 90))
    ImageDraw.Draw(thing).ellipse((110, 160, 190, 240), fill=(230, 228, 225))
    image = Image.composite(
        thing, Image.fromarray(shade.astype(np.uint8)), mask.filter(ImageFilter.GaussianBlur(1))
    )
    noisy = np.asarray(image, dtype=float) + rng.normal(0, 4, (400, 300, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask


def test_a_product_on_a_plain_ground_is_cut_out_with_its_print(photograph) -> None:
    image, true = photograph
    assert overlap(plain_ground_mask(image), true) > 0.95
    cut = np.asarray(cut_out(image, plain_ground_mask))
    assert (cut[5:40] == 255).all() and tuple(cut[200, 150]) == tuple(np.asarray(image)[200, 150])


def test_what_has_no_foreground_stays_whole() -> None:
    plain = Image.new("RGB", (80, 60), (90, 120, 40))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    speck = plain.copy()
    speck.putpixel((40, 30), (255, 0, 0))
    for image in (plain, speck):
        assert cut_out(image, plain_ground_mask) is image
    assert cut_out(noise, plain_ground_mask).size == noise.size


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (700, 3), (5, 5)])
def test_images_of_any_shape(size) -> None:
    assert plain_ground_mask(Image.new("RGB", size, "red")).size == size


def test_isnet_without_rembg_is_one_message(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "rembg":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"recgen\.foreground: found 'isnet' without.*recgen\[foreground\]"
    ) as caught:
        CUTTERS["isnet"]()
    assert "plain-ground" in str(caught.value)


def test_isnet_without_its_weights_is_one_message(monkeypatch) -> None:
    def unreachable(name):
        raise ConnectionError(f"no way to {name}")

    monkeypatch.setitem(sys.modules, "rembg", SimpleNamespace(new_session=unreachable))
    with pytest.raises(UserError, match=r"weights cannot be loaded \(.*isnet-general-use") as caught:
        CUTTERS["isnet"]()
    assert "U2NET_HOME" in str(caught.value)
