"""Measure the shipped demo models against the design's bars; usage: measure.py [images] [names of figures].

Everything is measured on attribute combinations that no model was trained on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus import draw_attributes
from PIL import Image
from train_llm import draw_item, draw_preference, genre, looks

from recgen.assets import FOLDER
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.atomic import read_atomic
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import NAMES, Attributes, caption
from recgen.data.simulation.renderer import movie_attributes, render
from recgen.diffusion.backbone import Backbone, Condition, Sampling, load_backbone
from recgen.features.encoders import Encoder, load_encoder
from recgen.features.item_keywords import clean
from recgen.features.language import LanguageModel
from recgen.features.prompts import item_prompt, preference_prompt
from recgen.features.tagger import best_phrases
from recgen.features.vocabulary import read_vocabulary, vocabulary_file
from recgen.recommender.recbole import PACKAGED, data_folder

SAMPLING = {
    "text": Sampling(steps=15, guidance_scale=3.0, batch_size=50),
    "image": Sampling(steps=15, guidance_scale=2.0, batch_size=50),
}


def held_out_attributes(count: int, what: str) -> list[Attributes]:
    """Draw `count` combinations that training never saw."""
    rng = numpy_rng(0, f"measure/{what}")
    return [draw_attributes(rng, held=True) for _ in range(count)]


def accuracy(asked: list[Attributes], images: list[Image.Image], reader: AttributeReader) -> dict[str, float]:
    """Share of images in which the reader finds the asked value, per attribute."""
    found = reader.read(images) == np.array(asked)
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
    images = [render(a, seed_for(0, "measure/picture", item=str(i))) for i, a in enumerate(asked)]
    embeddings = encoder.images(images)
    conditions = [
        Condition(seed=seed_for(0, "measure/image", item=str(i)), image_embedding=row)
        for i, row in enumerate(embeddings)
    ]
    return accuracy(asked, list(backbone.generate(conditions, SAMPLING["image"])), reader)


def style_and_content(
    backbone: Backbone, encoder: Encoder, reader: AttributeReader, count: int
) -> dict[str, float]:
    """Content from the prompt, style from the mean embedding of five images of other contents."""
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
    """Text-to-image retrieval among 100 distinct items: how often the right image comes first."""
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


def tagger(encoder: Encoder, count: int) -> dict[str, float]:
    """How often the tagger's phrase is the true attribute of an image."""
    asked = held_out_attributes(count, "tagger")
    images = encoder.images(
        [render(a, seed_for(0, "measure/tagger", item=str(i))) for i, a in enumerate(asked)]
    )
    groups = read_vocabulary(vocabulary_file("clip-tagger", "demo-clip")).groups
    return {
        name: round(float(np.mean([said == a.words[i] for said, a in zip(found, asked, strict=True)])), 4)
        for i, name in enumerate(NAMES)
        for found in [best_phrases(images, groups[name].phrases, groups[name].prompts, encoder)]
    }


def keywords(model: LanguageModel, items: list[tuple[str, str, list[str]]]) -> dict[str, float]:
    """Recall and precision of the keywords of items (caption, text, true keywords), over all keywords."""
    answers = model.complete([item_prompt(told, text, 8) for told, text, _ in items], 48)
    pairs = [(set(clean(answer, 8)), set(true)) for answer, (_, _, true) in zip(answers, items, strict=True)]
    right = sum(len(said & true) for said, true in pairs)
    return {
        "recall": round(right / sum(len(true) for _, true in pairs), 4),
        "precision": round(right / sum(len(said) for said, _ in pairs), 4),
        "exact": round(float(np.mean([said == true for said, true in pairs])), 4),
    }


def unseen_items(count: int) -> list[tuple[str, str, list[str]]]:
    """Items of looks and titles that training never saw."""
    rng = numpy_rng(0, "measure/keywords")
    return [draw_item(rng, held=True) for _ in range(count)]


def films() -> list[tuple[str, str, list[str]]]:
    """The real films of MovieLens-100K with their rendered posters' captions: real titles, which training never saw."""
    table = read_atomic(data_folder({"dataset": PACKAGED}) / f"{PACKAGED}.item", "\t", ["item_id"])
    found = []
    for row in table.itertuples():
        genres = row._asdict()["_4"].split()
        year = int(row.release_year) if row.release_year.isdigit() else None
        look = movie_attributes(genres, year, row.item_id)
        text = " ".join(f"{row.movie_title} {row.release_year} {' '.join(genres)}".split())
        found.append((caption(look), text, [*looks(caption(look)), *map(genre, genres)]))
    return found


def preferences(model: LanguageModel, count: int) -> float:
    """How often the image for a list of keywords, and an item's text or none, is described with exactly the right words."""
    rng = numpy_rng(0, "measure/preferences")
    asked = [draw_preference(rng) for _ in range(count)]
    answers = model.complete([preference_prompt(liked, text) for liked, text, _ in asked], 24)
    return round(float(np.mean([said == true for said, (_, _, true) in zip(answers, asked, strict=True)])), 4)


def main(count: int, chosen: list[str]) -> None:
    """Measure the chosen figures, or all of them, and write them to measured.json beside the others."""
    encoder, reader = load_encoder("demo-clip"), AttributeReader.load(FOLDER / "attribute-reader")
    backbone, model = load_backbone("demo-sd", "demo-ip-adapter"), LanguageModel("demo-llm")
    measures: dict[str, Callable[[], Any]] = {
        "images": lambda: count,
        "reader on renders": lambda: reader_on_renders(reader, count),
        "text to image retrieval at 1 of 100": lambda: retrieval(encoder),
        "text condition": lambda: text_condition(backbone, reader, count),
        "image condition": lambda: image_condition(backbone, encoder, reader, count),
        "content by text, style by image": lambda: style_and_content(backbone, encoder, reader, count),
        "sampling": lambda: {name: sampling.model_dump() for name, sampling in SAMPLING.items()},
        "tagger": lambda: tagger(encoder, count),
        "keywords of unseen items": lambda: keywords(model, unseen_items(count)),
        "keywords of real films": lambda: keywords(model, films()),
        "image for a list of keywords": lambda: preferences(model, count),
    }
    file = Path(__file__).with_name("measured.json")
    figures = json.loads(file.read_text()) if chosen else {}
    for name in chosen or measures:
        start = time.time()
        figures[name] = measures[name]()
        print(f"{name}: {json.dumps(figures[name])} ({time.time() - start:.0f} s)", flush=True)
    file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:])
