"""Encoders of images alone: models of transformers in their own folder format, and OpenCLIP folders, through one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError
from recgen.features.encoders import load_encoder
from recgen.features.vision import VisionEncoder, load_image_encoder

KEY = "recgen.ranker.judge_encoder"


@pytest.fixture(scope="module")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a DINOv2 of random weights with embeddings of width 16."""
    prepare_torchvision()
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    Dinov2Model(Dinov2Config(**shape)).save_pretrained(folder)
    size = {"shortest_edge": 28}
    BitImageProcessor(size=size, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(40, 40, 3), (64, 30, 3), (28, 28, 3)]
    return [Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]


def test_a_model_of_transformers_says_what_transformers_says(tiny_dino, images):
    from transformers import AutoImageProcessor, AutoModel

    encoder = load_image_encoder(str(tiny_dino), "cpu", KEY)
    processor = AutoImageProcessor.from_pretrained(tiny_dino, backend="pil")
    model = AutoModel.from_pretrained(tiny_dino).eval()
    with torch.no_grad():
        expected = [
            model(**processor(image, return_tensors="pt")).pooler_output[0].numpy() for image in images
        ]
    assert encoder.dim == 16 and encoder.name == str(tiny_dino)
    np.testing.assert_allclose(encoder.images(images), expected, atol=1e-5)
    assert encoder.images([]).shape == (0, 16)


def test_files_are_read_as_images_are(tiny_dino, images, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    encoder = load_image_encoder(str(tiny_dino), "cpu", KEY)
    np.testing.assert_allclose(encoder.files(paths, batch_size=2), encoder.images(images), atol=1e-5)


def test_a_model_without_a_pooled_output_gives_its_first_token(tiny_dino, images):
    from transformers import AutoImageProcessor, ViTConfig, ViTModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTModel(ViTConfig(**shape, image_size=28, patch_size=14), add_pooling_layer=False)
    encoder = VisionEncoder(model, AutoImageProcessor.from_pretrained(tiny_dino, backend="pil"), "vit")
    pixels = torch.stack([encoder.prepared(image) for image in images])
    first = model(pixel_values=pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(encoder.images(images), first.detach().numpy(), atol=1e-5)


def test_an_open_clip_folder_is_read_as_the_runs_encoder_is(tiny_clip, images):
    ours, theirs = load_image_encoder(str(tiny_clip), "cpu", KEY), load_encoder(str(tiny_clip))
    np.testing.assert_array_equal(ours.images(images), theirs.images(images))


def test_what_is_no_model_of_images_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(**shape, vocab_size=32)).save_pretrained(tmp_path / "bert")
    for spec in (str(tmp_path / "bert"), str(tmp_path / "nothing")):
        with pytest.raises(UserError, match=r"recgen\.ranker\.judge_encoder.*cannot be loaded"):
            load_image_encoder(spec, "cpu", KEY)


def test_weights_that_are_not_finite_are_refused(tiny_dino, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_dino, tmp_path / "broken"))
    state = load_file(folder / "model.safetensors")
    state["layernorm.weight"][3] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"layernorm\.weight holds values that are not finite"):
        load_image_encoder(str(folder), "cpu", KEY)
