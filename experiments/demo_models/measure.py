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
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from train_llm import draw_item, draw_preference, genre, looks

from recgen.assets import FOLDER
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.atomic import read_atomic
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import NAMES, Attributes, caption
from recgen.data.simulation.factors import FACTORS, Factors
from recgen.data.simulation.renderer import movie_attributes, render
from recgen.data.simulation.tastes import draw_factors
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
    "films": Sampling(steps=6, sampler="dpm++2m", guidance_scale=3.0, batch_size=50),
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


def varied(count: int, what: str) -> tuple[list[Attributes], np.ndarray, list[Image.Image]]:
    """Draw combinations that training never saw with factors of their own: attributes, factors ``[n, 7]``, renders."""
    asked, factors, images = held_out_attributes(count, what), [], []
    for i, look in enumerate(asked):
        factors.append(draw_factors(numpy_rng(0, f"measure/{what}/factors", item=str(i))))
        images.append(render(look, seed_for(0, f"measure/{what}/picture", item=str(i)), factors[-1]))
    return asked, np.array(factors), images


def in_degrees(asked: np.ndarray, found: np.ndarray) -> dict[str, dict[str, float]]:
    """Correlation, slope and root mean squared error of what was found of each factor against what was asked."""
    return {
        name: {
            "correlation": round(float(np.corrcoef(asked[:, f], found[:, f])[0, 1]), 3),
            "slope": round(float(np.polyfit(asked[:, f], found[:, f], 1)[0]), 3),
            "rmse": round(float(np.sqrt(np.mean(np.square(asked[:, f] - found[:, f])))), 3),
        }
        for f, name in enumerate(FACTORS)
    }


def factors_of_images(
    backbone: Backbone, encoder: Encoder, reader: AttributeReader, count: int
) -> dict[str, Any]:
    """Everything from one image with factors of its own, through the IP-Adapter."""
    asked, factors, images = varied(count, "image/varied")
    conditions = [
        Condition(seed=seed_for(0, "measure/varied", item=str(i)), image_embedding=row)
        for i, row in enumerate(encoder.images(images))
    ]
    drawn = list(backbone.generate(conditions, SAMPLING["image"]))
    return {**accuracy(asked, drawn, reader), "factors": in_degrees(factors, reader.factors(drawn))}


def factors_by_image(
    backbone: Backbone, encoder: Encoder, reader: AttributeReader, count: int
) -> dict[str, Any]:
    """Content and style from the prompt, factors from the mean embedding of five images that have nothing else in common."""
    asked, conditions, factors = held_out_attributes(count, "mixed/varied"), [], []
    for i, look in enumerate(asked):
        rng = numpy_rng(0, "measure/varied mates", item=str(i))
        factors.append(draw_factors(rng))
        mates = [render(draw_attributes(rng), int(rng.integers(2**31)), factors[-1]) for _ in range(5)]
        seed = seed_for(0, "measure/varied mixed", item=str(i))
        conditions.append(
            Condition(seed=seed, prompt=caption(look), image_embedding=encoder.images(mates).mean(0))
        )
    drawn = list(backbone.generate(conditions, SAMPLING["image"]))
    return {**accuracy(asked, drawn, reader), "factors": in_degrees(np.array(factors), reader.factors(drawn))}


def probe(encoder: Encoder, count: int) -> dict[str, float]:
    """R2 on held-out renders of a linear regression of each factor on the embedding of demo-clip."""
    rng = numpy_rng(0, "measure/probe")
    factors = np.array([draw_factors(rng) for _ in range(2000)])
    images = [render(draw_attributes(rng), int(rng.integers(2**31)), Factors(*row)) for row in factors]
    fitted = LinearRegression().fit(encoder.images(images), factors)
    _, truth, held = varied(count, "probe")
    scores = r2_score(truth, fitted.predict(encoder.images(held)), multioutput="raw_values")
    return {name: round(float(score), 3) for name, score in zip(FACTORS, scores, strict=True)}


def reader_in_degrees(backbone: Backbone, reader: AttributeReader, count: int) -> dict[str, Any]:
    """What the reader sees in renders with factors, and in the same after the VAE of demo-sd, through which all is drawn."""
    asked, factors, images = varied(count, "reader/varied")
    decoded: list[Image.Image] = []
    for start in range(0, count, 50):
        part = images[start : start + 50]
        decoded += backbone.decoded(backbone.encode_images(part), range(start, start + len(part)))
    return {
        name: {**accuracy(asked, shown, reader), "factors": in_degrees(factors, reader.factors(shown))}
        for name, shown in (("renders", images), ("decoded", decoded))
    }


def words_in_any_order(backbone: Backbone, reader: AttributeReader, count: int) -> dict[str, float]:
    """All four words, as a list in an order drawn at random."""
    asked, conditions = held_out_attributes(count, "order"), []
    for i, look in enumerate(asked):
        motif, colour, ground, pattern = look.words
        words = numpy_rng(0, "measure/order", item=str(i)).permutation(
            [motif, colour, f"{ground} ground", pattern]
        )
        conditions.append(Condition(seed=seed_for(0, "measure/order", item=str(i)), prompt=", ".join(words)))
    return accuracy(asked, list(backbone.generate(conditions, SAMPLING["text"])), reader)


def real_films(backbone: Backbone, reader: AttributeReader) -> dict[str, float]:
    """Share of 200 real films, whose titles no model was trained on, that are drawn with the motif of their first genre."""
    table = read_atomic(data_folder({"dataset": PACKAGED}) / f"{PACKAGED}.item", "\t", ["item_id"])
    rows = [row._asdict() for row in table.itertuples()]
    rows = [rows[i] for i in numpy_rng(0, "measure/films").permutation(len(rows))[:200]]
    motifs = np.array([movie_attributes(row["_4"].split(), None, row["item_id"]).motif for row in rows])
    forms = {
        "title and year first": "{movie_title} {release_year} {_4}",
        "title first": "{movie_title} {_4}",
        "genres first": "{_4} {movie_title}",
        "genres alone": "{_4}",
    }
    found = {}
    for name, form in forms.items():
        prompts = [form.format(**row) for row in rows]
        seeds = [seed_for(0, "measure/films", item=row["item_id"]) for row in rows]
        conditions = [Condition(seed=seed, prompt=text) for seed, text in zip(seeds, prompts, strict=True)]
        drawn = list(backbone.generate(conditions, SAMPLING["films"]))
        found[name] = round(float((reader.read(drawn)[:, 0] == motifs).mean()), 4)
    return found


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
        "words in any order": lambda: words_in_any_order(backbone, reader, count),
        "real films": lambda: real_films(backbone, reader),
        "factors in the embedding, R2": lambda: probe(encoder, count),
        "reader in degrees": lambda: reader_in_degrees(backbone, reader, count),
        "image condition, with factors": lambda: factors_of_images(backbone, encoder, reader, count),
        "factors by image, all else by text": lambda: factors_by_image(backbone, encoder, reader, count),
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
