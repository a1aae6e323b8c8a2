"""Measure the shipped demo models against the design's bars and write the figures into their card.

Everything is measured on attribute combinations that no model was trained on.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from corpus import draw_attributes
from PIL import Image

from recgen.assets import FOLDER
from recgen.data.attribute_reader import AttributeReader
from recgen.data.attributes import NAMES, Attributes, caption
from recgen.data.renderer import render
from recgen.diffusion import Backbone, Condition, Sampling, load_backbone
from recgen.features.encoders import Encoder, load_encoder
from recgen.seeding import numpy_rng, seed_for

SAMPLING = {
    "text": Sampling(steps=15, guidance_scale=3.0, batch_size=50),
    "image": Sampling(steps=15, guidance_scale=2.0, batch_size=50),
}


def held_out_attributes(count: int, what: str) -> list[Attributes]:
    """Draw `count` combinations that training never saw."""
    rng = numpy_rng(0, f"measure/{what}")
    return [draw_attributes(rng, held=True) for _ in range(count)]


def accuracy(
    asked: list[Attributes], pictures: list[Image.Image], reader: AttributeReader
) -> dict[str, float]:
    """Share of pictures in which the reader finds the asked value, per attribute."""
    found = reader.read(pictures) == np.array(asked)
    return {name: round(float(found[:, i].mean()), 4) for i, name in enumerate(NAMES)}


def text_condition(backbone: Backbone, reader: AttributeReader, count: int) -> dict[str, float]:
    asked = held_out_attributes(count, "text")
    conditions = [
        Condition(seed=seed_for(0, "measure/text", item=str(i)), prompt=caption(a))
        for i, a in enumerate(asked)
    ]
    return accuracy(asked, list(backbone.generate(conditions, SAMPLING["text"])), reader)


def image_condition(
    backbone: Backbone, encoder: Encoder, reader: AttributeReader, count: int
) -> dict[str, float]:
    asked = held_out_attributes(count, "image")
    pictures = [render(a, seed_for(0, "measure/picture", item=str(i))) for i, a in enumerate(asked)]
    embeddings = encoder.images(pictures)
    conditions = [
        Condition(seed=seed_for(0, "measure/image", item=str(i)), image_embedding=row)
        for i, row in enumerate(embeddings)
    ]
    return accuracy(asked, list(backbone.generate(conditions, SAMPLING["image"])), reader)


def style_and_content(
    backbone: Backbone, encoder: Encoder, reader: AttributeReader, count: int
) -> dict[str, float]:
    """Content from the prompt, style from the mean embedding of five pictures of other contents."""
    asked, conditions = held_out_attributes(count, "mixed"), []
    for i, a in enumerate(asked):
        rng = numpy_rng(0, "measure/mates", item=str(i))
        mates = [render(a._replace(motif=int(rng.integers(19))), int(rng.integers(2**31))) for _ in range(5)]
        seed = seed_for(0, "measure/mixed", item=str(i))
        conditions.append(
            Condition(seed=seed, prompt=f"a {a.words[0]}", image_embedding=encoder.images(mates).mean(0))
        )
    return accuracy(asked, list(backbone.generate(conditions, SAMPLING["image"])), reader)


def retrieval(encoder: Encoder, repeats: int = 10) -> float:
    """Text-to-image retrieval among 100 distinct items: how often the right picture comes first."""
    hits = []
    for repeat in range(repeats):
        items = list(dict.fromkeys(held_out_attributes(400, f"retrieval/{repeat}")))[:100]
        images = encoder.images(
            [render(a, seed_for(0, "measure/retrieval", item=f"{repeat}/{i}")) for i, a in enumerate(items)]
        )
        texts = encoder.texts([caption(a) for a in items])
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        hits.append(float(((texts @ images.T).argmax(1) == np.arange(100)).mean()))
    return round(float(np.mean(hits)), 4)


def reader_on_renders(reader: AttributeReader, count: int) -> dict[str, float]:
    asked = held_out_attributes(count, "reader")
    return accuracy(
        asked, [render(a, seed_for(0, "measure/reader", item=str(i))) for i, a in enumerate(asked)], reader
    )


def main(count: int) -> None:
    start = time.time()
    encoder, reader = load_encoder("demo-clip"), AttributeReader.load(FOLDER / "attribute-reader")
    backbone = load_backbone("demo-sd", "demo-ip-adapter")
    figures = {
        "pictures": count,
        "reader on renders": reader_on_renders(reader, count),
        "text to image retrieval at 1 of 100": retrieval(encoder),
        "text condition": text_condition(backbone, reader, count),
        "image condition": image_condition(backbone, encoder, reader, count),
        "content by text, style by image": style_and_content(backbone, encoder, reader, count),
        "sampling": {name: sampling.model_dump() for name, sampling in SAMPLING.items()},
    }
    print(json.dumps(figures, indent=1), f"\n{time.time() - start:.0f} s")
    Path(__file__).with_name("measured.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
