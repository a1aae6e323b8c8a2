"""What a PNG says about where it comes from, read by Pillow and as XML."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from recgen.core.provenance import DRAWN, recipe_hash, stamped

RECIPE = '{"prompt": "a <kite> & \\"two\\" stars", "seed": 7}'
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"


def png(**text: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    information, buffer = PngInfo(), io.BytesIO()
    for key, value in text.items():
        information.add_text(key, value)
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=information)
    return buffer.getvalue()


def test_readers_of_xmp_find_the_source_type_and_the_recipe():
    made = stamped(png(recgen=RECIPE), RECIPE)
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        packet, text = image.info["xmp"], image.info["recgen"]
        pixels = np.asarray(image)
    tree = ElementTree.fromstring(packet)
    (said,) = [element.attrib for element in tree.iter(DESCRIPTION)]
    assert said["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == DRAWN
    assert said["{urn:recgen:1.0#}recipe"] == f"sha256:{recipe_hash(text)}"
    with Image.open(io.BytesIO(png())) as image:
        assert (pixels == np.asarray(image)).all()


def test_a_stamp_is_given_once_and_to_png_files_alone():
    made = stamped(png(), RECIPE)
    assert stamped(made, "another") == made and len(made) > len(png())
    with pytest.raises(ValueError, match="not a PNG"):
        stamped(b"\xff\xd8\xff", RECIPE)
