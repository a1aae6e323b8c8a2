"""Image-to-image: how far an image goes back is how much of it changes, whoever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from recgen.assets import asset_folder
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import Attributes
from recgen.data.simulation.renderer import render
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.redrawing import redraw
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import load_encoder

LOOKS = [Attributes(3, 5, 4, 1), Attributes(8, 0, 0, 0), Attributes(15, 2, 6, 3)]
TEXTS = ["The Star. a star", "a tear", "a rocket"]
SEEDS = [1, 2, 3]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo-sd", "demo-ip-adapter")


@pytest.fixture(scope="module")
def images():
    return [render(look, number) for number, look in enumerate(LOOKS)]


def redrawn(backbone, images, strength, sampler="dpm++2m", rows=slice(None), batch_size=8, embeddings=None):
    sampling = Sampling(steps=10, sampler=sampler, guidance_scale=1, batch_size=batch_size)
    shown = None if embeddings is None else embeddings[rows]
    made = redraw(backbone, images[rows], TEXTS[rows], SEEDS[rows], strength, sampling, shown)
    return np.stack([np.asarray(image, dtype=float) for image in made])


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
def test_more_strength_changes_more(backbone, images, sampler):
    start = np.stack([np.asarray(image, dtype=float) for image in images])
    weak, strong = (redrawn(backbone, images, strength, sampler) for strength in (0.1, 0.9))
    assert np.abs(weak - start).mean() < 12, "mostly what the VAE loses"
    assert np.abs(strong - start).mean() > 2 * np.abs(weak - start).mean()


def test_an_image_is_redrawn_alike_alone_and_among_others(backbone, images):
    together = redrawn(backbone, images, 0.5)
    alone = [redrawn(backbone, images, 0.5, rows=slice(n, n + 1))[0] for n in range(3)]
    assert np.abs(together - np.stack(alone)).max() <= 1
    assert np.abs(together - redrawn(backbone, images, 0.5, batch_size=2)).max() <= 1


def test_what_an_image_is_told_of_itself_it_keeps(backbone, images):
    embeddings = load_encoder("demo-clip").images(images)
    reader = AttributeReader.load(asset_folder("attribute-reader"))
    sampling = Sampling(steps=10, sampler="dpm++2m", guidance_scale=1)
    made = list(redraw(backbone, images, TEXTS, SEEDS, 0.7, sampling, embeddings))
    assert (reader.read(made) == np.array(LOOKS)).mean() >= 11 / 12
    pixels = np.stack([np.asarray(image, dtype=float) for image in made])
    assert np.abs(pixels - redrawn(backbone, images, 0.7)).mean() > 3, "the embedding makes a difference"


@pytest.mark.parametrize("strength", [0, -0.1, 1.1])
def test_a_strength_that_is_none_is_refused(backbone, images, strength):
    with pytest.raises(ValueError, match="strength must be above 0"):
        redrawn(backbone, images, strength)
