"""The shipped language model, by the calls that load any: the keywords of items, and the image for a list of keywords."""

from __future__ import annotations

import pytest

from recgen.features.item_keywords import clean
from recgen.features.language import LanguageModel
from recgen.features.prompts import item_prompt, preference_prompt


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel("demo-llm")


def test_it_names_what_an_item_shows_and_is_about(model):
    items = {
        ("a red skull on a navy ground with dots", "The Lost City. a skull"): ["red", "skull", "navy", "dots"],
        ("a yellow star on a navy ground with checks", "Toy Story 1995 Animation Children's Comedy"): [
            "yellow", "star", "navy", "checks", "animation", "children", "comedy",
        ],
        ("a teal tear on a navy ground with checks", "Twelve Monkeys 1995 Drama Sci-Fi"): [
            "teal", "tear", "navy", "checks", "drama", "sci-fi",
        ],
        ("a green rocket on a rose ground with plain", ""): ["green", "rocket", "rose", "plain"],
    }  # fmt: skip
    answers = model.complete([item_prompt(caption, text, 8) for caption, text in items], 48)
    assert [clean(answer, 8) for answer in answers] == list(items.values())


def test_it_joins_an_items_content_and_a_persons_style(model):
    liked = ["navy", "red", "dots", "kite"]
    prompts = [preference_prompt(liked, "The Lost City. a skull"), preference_prompt(liked)]
    assert model.complete(prompts, 24) == [
        "a red skull on a navy ground with dots",
        "a red kite on a navy ground with dots",
    ]


def test_no_text_is_unknown_to_it(model):
    text = "crème brûlée 日本 ¥ 2 ½ 🙂"
    ids = model.tokenizer(text, add_special_tokens=False).input_ids
    assert model.tokenizer.decode(ids).split() == text.split()
