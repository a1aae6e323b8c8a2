"""A captioner is shown the very pixels of the files it was given."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from recgen.features.captioner import Captioner


def test_the_model_gets_the_pixels_of_each_file_in_order(blip2, tmp_path):
    paths = []
    for seed in (0, 1):
        pixels = np.random.default_rng(seed).integers(0, 255, (28, 28, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(paths[-1])
    captioner, seen = Captioner(str(blip2)), []
    generate = captioner.model.generate

    def watched(**inputs):
        seen.append(inputs["pixel_values"])
        return generate(**inputs)

    captioner.model.generate = watched
    captioner.describe(paths)
    captioner.describe(paths, "what is it?")
    processor = captioner.processor.image_processor
    expected = torch.cat(
        [
            torch.as_tensor(np.asarray(processor(Image.open(path))["pixel_values"])).reshape(1, 3, 28, 28)
            for path in paths
        ]
    )
    assert len(seen) == 2 and not torch.equal(expected[0], expected[1])
    for given in seen:
        torch.testing.assert_close(given, expected)
