"""Encoders of real photographs and texts whose weights come inside packages; skipped where those are not installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from recgen.core.errors import UserError
from recgen.features import efficientnet, wordllama
from recgen.features.vision import load_image_encoder

photos = pytest.mark.skipif(not efficientnet.installed(), reason="the extra photos is not installed")
words = pytest.mark.skipif(wordllama.folder() is None, reason="wordllama is not installed")


@pytest.fixture(scope="module")
def encoder():
    return load_image_encoder("efficientnet-lite0", "cpu", "recgen.ranker.judge_encoder")


def scene(seed: int, size: tuple[int, int] = (200, 160)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@photos
def test_embeddings_are_those_of_the_network(encoder):
    images = [scene(seed) for seed in range(3)]
    found = encoder.images(images)
    assert found.shape == (3, encoder.dim) == (3, 1280) and np.isfinite(found).all()
    np.testing.assert_allclose(encoder.images(images[1:2])[0], found[1], atol=1e-4)


@photos
def test_what_is_shown_counts_more_than_its_size(encoder):
    """The size at which an image comes changes its embedding less than what it shows does."""
    one, larger, other = encoder.images([scene(1), scene(1, (400, 320)), scene(2)])
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    assert cosine(one, larger) > 0.98 and cosine(one, other) < cosine(one, larger) - 0.02


@photos
def test_a_square_is_cut_from_the_middle(encoder):
    image = Image.new("RGB", (400, 100), "red")
    image.paste("blue", (170, 20, 230, 80))
    pixels = encoder.prepared(image)
    assert pixels.shape == (3, 224, 224) and pixels.min() >= -1 and pixels.max() <= 1.01
    assert pixels[2, 112, 112] > 0.9 > pixels[2, 5, 5]


@words
def test_texts_are_near_by_meaning():
    vectors = wordllama.WordLlama("key").texts(["a war film", "a battle movie", "a romantic comedy", ""])
    assert vectors.shape == (4, 256) and not vectors[3].any()
    near = vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    assert near[0] @ near[1] > near[0] @ near[2] + 0.2


@words
def test_a_text_is_the_mean_of_its_tokens_and_stands_alone():
    model = wordllama.WordLlama("key")
    both = model.texts(["war", "a rather long text about nothing in particular"])
    np.testing.assert_array_equal(model.texts(["war"])[0], both[0])


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(efficientnet, "installed", lambda: False)
    monkeypatch.setattr(wordllama, "folder", lambda: None)
    with pytest.raises(UserError, match=r"judge_encoder: .*not installed.*\.\[photos\]"):
        load_image_encoder("efficientnet-lite0", "cpu", "recgen.ranker.judge_encoder")
    with pytest.raises(UserError, match=r"text_encoder: .*--no-deps wordllama"):
        wordllama.WordLlama("recgen.ranker.text_encoder")


@words
def test_ranking_models_may_read_texts_by_wordllama(write_config, tmp_path):
    from recgen.config.loader import load_config
    from recgen.core.io import read_features
    from recgen.pipeline import pipeline
    from recgen.pipeline.context import RunContext
    from recgen.stages.evaluate import facts
    from recgen.stages.ranker import item_features

    config = load_config(str(write_config(tmp_path, ranker={"text_encoder": "wordllama"})))
    run = RunContext(config, tmp_path / "run")
    pipeline.execute(run, until="features")
    paths = item_features(run)
    assert read_features(run.folder / "features/ranker_text.safetensors").shape == (30, 256)
    assert paths["text"].endswith("ranker_text.safetensors") and paths["image"].endswith("/image.safetensors")
    assert facts(run)["text_encoder"] == "wordllama"
    assert importlib.util.find_spec("wordllama") is not None
