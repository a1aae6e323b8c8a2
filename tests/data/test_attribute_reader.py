"""The attribute reader on images it was not trained on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from recgen.assets import asset_folder
from recgen.core.errors import UserError
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.factors import FACTORS, NEUTRAL, Factors
from recgen.data.simulation.renderer import render
from recgen.data.simulation.tastes import draw_factors

FACTOR_FLOORS = dict.fromkeys(FACTORS, 0.75)
"""Of the correlation of what is read and what was drawn, on images with factors of their own."""


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return AttributeReader.load(asset_folder("attribute-reader"))


@pytest.fixture(scope="module")
def images() -> tuple[list[Image.Image], np.ndarray]:
    attributes = np.random.default_rng(99).integers(SIZES, size=(400, 4))
    return [render(Attributes(*row.tolist()), 7_000_000 + n) for n, row in enumerate(attributes)], attributes


def degrade(image: Image.Image) -> Image.Image:
    """Blur and compress, about as much as a small autoencoder does."""
    small = image.resize((40, 40), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.filter(ImageFilter.GaussianBlur(0.5)).save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def test_reads_clean_images(reader, images) -> None:
    shown, attributes = images
    assert ((reader.read(shown) == attributes).mean(axis=0) >= 0.995).all()


def test_reads_degraded_images(reader, images) -> None:
    shown, attributes = images
    assert ((reader.read([degrade(image) for image in shown]) == attributes).mean(axis=0) >= 0.97).all()


@pytest.fixture(scope="module")
def varied() -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(98)
    attributes = rng.integers(SIZES, size=(300, 4))
    factors = np.array([draw_factors(rng) for _ in attributes])
    drawn = [
        render(Attributes(*row.tolist()), 8_000_000 + n, Factors(*factors[n].tolist()))
        for n, row in enumerate(attributes)
    ]
    return drawn, attributes, factors


def test_reads_factors_in_degrees_and_attributes_beside_them(reader, varied) -> None:
    shown, attributes, factors = varied
    found = reader.factors(shown)
    assert found.min() >= -1 and found.max() <= 1
    for column, name in enumerate(FACTORS):
        assert np.corrcoef(found[:, column], factors[:, column])[0, 1] > FACTOR_FLOORS[name], name
    assert ((reader.read(shown) == attributes).mean(axis=0) >= 0.95).all()


def test_images_without_factors_are_read_as_such(reader, images) -> None:
    found = reader.factors(images[0]).mean(axis=0)
    np.testing.assert_allclose(found, NEUTRAL, atol=0.15)


def test_reads_any_size_and_mode(reader, images) -> None:
    shown, attributes = images
    large = [image.resize((256, 256), Image.Resampling.BICUBIC) for image in shown[:50]]
    palette = [image.convert("RGBA") for image in shown[:50]]
    assert (reader.read(large) == attributes[:50]).mean() >= 0.99
    assert (reader.read(palette) == attributes[:50]).all(axis=1).mean() >= 0.99


def test_probabilities_are_of_single_images(reader, images) -> None:
    shown, _ = images
    together = reader.probabilities(shown[:300])
    assert [part.shape for part in together] == [(300, size) for size in SIZES]
    for part, alone in zip(together, reader.probabilities(shown[7:8]), strict=True):
        np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(part[7:8], alone, atol=1e-5)


def test_no_images_no_attributes(reader) -> None:
    assert reader.read([]).shape == (0, 4) and reader.factors([]).shape == (0, 7)


def test_saved_and_loaded_is_the_same_and_small(reader, images, tmp_path: Path) -> None:
    reader.save(tmp_path)
    again = AttributeReader.load(tmp_path)
    for a, b in zip(reader.probabilities(images[0][:20]), again.probabilities(images[0][:20]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000
    assert (
        json.loads((tmp_path / "config.json").read_text())["accuracy_plain"]
        == reader.config["accuracy_plain"]
    )


def test_a_folder_without_a_reader_or_of_other_words_is_named(reader, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        AttributeReader.load(tmp_path)
    reader.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["attributes"]["motif"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="another vocabulary"):
        AttributeReader.load(tmp_path)
    reader.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "factors": config["factors"][:6]}))
    with pytest.raises(UserError, match="grain"):
        AttributeReader.load(tmp_path)
