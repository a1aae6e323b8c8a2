"""The CLIP tagger on images whose true attributes are known, vocabularies, and an image-to-text model of random weights."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from recgen.assets import FOLDER
from recgen.config.schema import OpenClip
from recgen.config.text_models import Tagger
from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import NAMES, SIZES, VOCABULARIES, Attributes, caption
from recgen.data.simulation.renderer import render
from recgen.features.captioner import Captioner
from recgen.features.encoders import Encoder, load_encoder
from recgen.features.tagger import best_phrases, phrase_probabilities, tag
from recgen.features.vocabulary import Group, Vocabulary, read_vocabulary, vocabulary_file

DEMO = read_vocabulary(FOLDER / "vocabularies/demo.yaml")
AGREEMENT = {"motif": 0.99, "colour": 0.98, "ground": 0.99, "pattern": 0.98}
"""Floors of the share of images whose tag is the true attribute."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("demo-clip")


def test_the_demo_vocabulary_is_the_renderers():
    assert {name: tuple(group.phrases) for name, group in DEMO.groups.items()} == dict(
        zip(NAMES, VOCABULARIES, strict=True)
    )


def test_tags_agree_with_the_simulators_attributes(encoder):
    rng = numpy_rng(0, "test/tagger")
    true = [Attributes(*rng.integers(SIZES).tolist()) for _ in range(400)]
    images = encoder.images([render(look, int(rng.integers(2**31))) for look in true])
    right = {}
    for column, name in enumerate(NAMES):
        group = DEMO.groups[name]
        found = best_phrases(images, group.phrases, group.prompts, encoder)
        right[name] = float(
            np.mean([word == look.words[column] for word, look in zip(found, true, strict=True)])
        )
    assert all(right[name] >= floor for name, floor in AGREEMENT.items()), right
    captions = tag(images, DEMO, encoder)
    assert np.mean([said == caption(look) for said, look in zip(captions, true, strict=True)]) >= 0.95


def test_an_image_gets_the_phrase_of_the_smallest_angle():
    class Fake:
        """Embeds "the N" in direction N, whatever its length."""

        def texts(self, sentences):
            return np.array([np.eye(3)[int(sentence[-1])] * 9 for sentence in sentences])

    images = np.array([[0.1, 5.0, 0.2], [3.0, 2.9, 0.0], [-1.0, -2.0, 0.0]])
    assert best_phrases(images, ["0", "1", "2"], ["the {}", "a {}"], Fake()) == ["1", "0", "2"]


def test_an_encoder_is_asked_once_for_what_phrases_look_like():
    class Counting:
        def __init__(self, order):
            self.order, self.asked = order, []

        def texts(self, sentences):
            self.asked += sentences
            return np.array([np.eye(2)[self.order[int(sentence[-1])]] for sentence in sentences])

    images, group = np.array([[3.0, 1.0]]), Group(phrases=["0", "1"], prompts=["the {}"])
    one, other = Counting([0, 1]), Counting([1, 0])
    first = phrase_probabilities(images, group, one, 10.0)
    assert (phrase_probabilities(images, group, one, 10.0) == first).all() and one.asked == ["the 0", "the 1"]
    assert (phrase_probabilities(images, group, other, 10.0) == first[:, ::-1]).all()
    assert best_phrases(images, ["0", "1"], ["a {}"], one) == ["0"] and len(one.asked) == 4
    kept = weakref.ref(one)
    del one
    gc.collect()
    assert kept() is None, "nothing holds an encoder that is let go"


def test_the_vocabulary_follows_the_encoder_and_the_user(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("caption: 'it is {what}'\ngroups: {what: {phrases: [one, two]}}\n")
    assert vocabulary_file("clip-tagger", "demo-clip").name == "demo.yaml"
    assert vocabulary_file("clip-tagger", OpenClip(model="ViT-H-14")).name == "general.yaml"
    assert read_vocabulary(vocabulary_file(Tagger(tagger=str(own)), "demo-clip")).groups["what"].prompts == [
        "{}"
    ]
    with pytest.raises(UserError, match="no file"):
        vocabulary_file(Tagger(tagger=str(tmp_path / "absent.yaml")), "demo-clip")


def test_the_general_vocabulary_speaks_of_real_images(encoder):
    general = read_vocabulary(FOLDER / "vocabularies/general.yaml")
    phrases = [phrase for group in general.groups.values() for phrase in group.phrases]
    assert set(general.groups) == {"thing", "colour", "material", "style", "mood"} and len(phrases) > 150
    for group in general.groups.values():
        assert len(set(group.phrases)) == len(group.phrases) and all(
            isinstance(phrase, str) for phrase in group.phrases
        )
    assert general.style == ["colour", "style", "mood"]
    (said,) = tag(encoder.images([Image.new("RGB", (64, 64), "red")]), general, encoder)
    assert "{" not in said and len(said.split()) >= 7


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("caption: '{wat}'\ngroups: {what: {phrases: [one]}}", ["caption", "{wat}", "'what'?"]),
        ("caption: '{what'\ngroups: {what: {phrases: [one]}}", ["caption", "braces"]),
        ("caption: x\nstyle: [wha]\ngroups: {what: {phrases: [one]}}", ["style", "'wha'", "'what'?"]),
        ("caption: x\ngroups: {what: {phrase: [one]}}", ["groups.what.phrase:", "unknown key"]),
        ("caption: x\ngroups: {what: {phrases: []}}", ["groups.what.phrases", "at least 1"]),
        ("caption: x\ngroups: {what: {phrases: [one], prompts: [a thing]}}", ["what.prompts", "one {}"]),
        ("- a list", ["vocabulary"]),
    ],
)
def test_a_mistake_in_a_vocabulary_is_named(tmp_path, text, parts):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_vocabulary(tmp_path / "own.yaml")
    assert all(part in str(caught.value) for part in ["own.yaml", *parts]), str(caught.value)


def test_an_image_to_text_model_describes_images(blip2, tmp_path):
    assert json.loads((blip2 / "config.json").read_text())["model_type"] == "blip-2"
    paths = []
    for name, colour in (("one", "red"), ("two", "navy")):
        paths.append(tmp_path / f"{name}.png")
        Image.new("RGB", (40, 30), colour).save(paths[-1])
    captioner = Captioner(str(blip2))
    together = captioner.describe(paths)
    assert len(together) == 2 and all(word.startswith("word") for said in together for word in said.split())
    assert together == [captioner.describe([path])[0] for path in paths] and together[0]
    assert not any(p.requires_grad for p in captioner.model.parameters())


def test_what_is_no_captioner_is_named(tiny_llm, tmp_path):
    for spec in (str(tiny_llm), str(tmp_path / "absent")):
        with pytest.raises(UserError, match=r"recgen\.captioner: found .*clip-tagger"):
            Captioner(spec)


def worn(tmp_path: Path, **rates: float) -> Vocabulary:
    values = yaml.safe_load(vocabulary_file("clip-tagger", "demo-clip").read_text())
    (tmp_path / "worn.yaml").write_text(yaml.safe_dump({**values, **rates}))
    return read_vocabulary(tmp_path / "worn.yaml")


def test_a_vocabulary_loses_phrases_of_style_at_its_rate(tmp_path):
    half = worn(tmp_path, missing=0.5)
    assert half.groups["motif"] == DEMO.groups["motif"]
    for name, left in (("colour", 5), ("ground", 4), ("pattern", 3)):
        phrases = half.groups[name].phrases
        assert len(phrases) == left and set(phrases) < set(DEMO.groups[name].phrases)
        assert phrases == sorted(phrases, key=DEMO.groups[name].phrases.index)
    assert worn(tmp_path, missing=0.5) == half != worn(tmp_path, missing=0.5, seed=1)
    assert len(worn(tmp_path, missing=0.99).groups["colour"].phrases) == 1
    assert worn(tmp_path) == DEMO


def test_wrong_tags_are_those_of_other_images(tmp_path, encoder):
    wrong = worn(tmp_path, wrong=0.5).groups["colour"]
    assert wrong.phrases == DEMO.groups["colour"].phrases
    assert len(wrong.instead) == 5 and set(wrong.instead) == set(wrong.instead.values())
    assert all(said != meant for said, meant in wrong.instead.items())
    images = encoder.images([render(Attributes(3, colour, 0, 0), colour) for colour in range(10)])
    right = best_phrases(images, wrong.phrases, wrong.prompts, encoder)
    found = best_phrases(images, wrong.phrases, wrong.prompts, encoder, wrong.instead)
    assert [wrong.instead.get(said, said) for said in found] == right
    assert sum(a != b for a, b in zip(found, right, strict=True)) >= 4


def test_blip2_is_asked_as_its_card_says(blip2, tmp_path, monkeypatch):
    render(Attributes(0, 0, 0, 0), 1).save(tmp_path / "a.png")
    captioner, asked = Captioner(str(blip2)), []

    def processor(images, text, return_tensors):
        asked.extend(text)
        return {"pixel_values": len(images)}

    monkeypatch.setattr(captioner, "processor", processor)
    captioner._inputs([Image.open(tmp_path / "a.png").convert("RGB")], "What is it?")
    assert asked == ["Question: What is it? Answer:"]
