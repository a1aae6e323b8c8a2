"""Keywords of items: what is kept of an answer, the frequent ones of a history, and that nothing is asked twice."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from recgen.config.schema import Settings
from recgen.core.errors import UserError
from recgen.features import completion
from recgen.features.item_keywords import clean, top_keywords
from recgen.features.prompts import item_prompt
from recgen.stages.features import extract_keywords


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Red Skull, dots, Dots.", ["red skull", "dots"]),
        ("Keywords: horror; night\n", ["horror", "night"]),
        ('1. "War"\n2) Drama\n- **love story**\n• sea', ["war", "drama", "love story", "sea"]),
        ("sci-fi , film-noir ,", ["sci-fi", "film-noir"]),
        ("Sure! I would be glad to help you with the keywords of this item, war", ["war"]),
        ("a, b, c, d, e", ["a", "b", "c"]),
        ("Straße, ÉTÉ, 日本", ["straße", "été", "日本"]),
        (" ,; \n", []),
        ("None", []),
        ("", []),
    ],
)
def test_an_answer_is_cleaned(answer, kept):
    assert clean(answer, 3 if kept == ["a", "b", "c"] else 8) == kept


def test_the_frequent_keywords_of_a_history():
    history = [("red", "skull"), ("skull", "dots"), ("dots", "red", "war"), ("skull", "skull")]
    assert top_keywords(history, 2) == ["skull", "red"]  # red and dots are as frequent; red came first
    assert top_keywords(history, 8) == ["skull", "red", "dots"]
    assert top_keywords(history, 8, min_count=1) == ["skull", "red", "dots", "war"]
    assert top_keywords([("one",), ("two",)], 8) == ["one", "two"], "rare ones are better than none"
    assert top_keywords([], 8) == []


def test_the_prompt_leaves_out_what_an_item_has_not():
    assert item_prompt("a skull", "a film", 5).startswith("Picture: a skull.\nText: a film.\n")
    assert "Image" not in item_prompt("", "a film", 5) and "Text" not in item_prompt("a skull", "", 5)
    assert "at most 5" in item_prompt("a skull", "a film", 5)


class FakeModel:
    """Answers with the words of the item's text, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, prompts: list[str], max_new_tokens: int) -> list[str]:
        self.asked += prompts
        return [", ".join(prompt.split("Text: ")[1].split(".")[0].split()) for prompt in prompts]


def make_run(folder: Path, model: Any = None, **settings: Any) -> Any:
    """A stand-in for a run whose features are there: four items, two of them alike, one with neither image nor text."""
    (folder / "features").mkdir(exist_ok=True)
    items = pd.DataFrame({"item_id": ["a", "b", "c", "d"], "text": ["War Sea", "love", "love", ""]})
    captions = pd.DataFrame({"item_id": ["a"], "caption": ["a red ship"]})
    captions.to_parquet(folder / "features/captions.parquet")
    return SimpleNamespace(
        folder=folder, items=items, settings=Settings(**settings), models=SimpleNamespace(language_model=model),
        config=SimpleNamespace(source="own.yaml"),
    )  # fmt: skip


def read(folder: Path) -> dict[str, list[str]]:
    table = pd.read_parquet(folder / "features/keywords.parquet")
    return {token: list(words) for token, words in zip(table["item_id"], table["keywords"], strict=True)}


def test_every_item_with_words_gets_keywords_and_none_is_asked_about_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(completion, "_BLOCK", 1)
    model = FakeModel()
    written = extract_keywords(make_run(tmp_path, model))
    assert read(tmp_path) == {"a": ["war", "sea"], "b": ["love"], "c": ["love"]}
    assert written == [tmp_path / "features/keywords.parquet"]
    assert len(model.asked) == 2 and "Picture: a red ship." in model.asked[0], (
        "items that are alike are asked about once"
    )
    extract_keywords(make_run(tmp_path, model))
    assert len(model.asked) == 2
    extract_keywords(make_run(tmp_path, model, keywords={"n": 1}))
    assert len(model.asked) == 4 and read(tmp_path)["a"] == ["war"], "another question is another answer"


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(completion, "_BLOCK", 1)

    class Dies(FakeModel):
        def complete(self, prompts: list[str], max_new_tokens: int) -> list[str]:
            if self.asked:
                raise KeyboardInterrupt
            return super().complete(prompts, max_new_tokens)

    with pytest.raises(KeyboardInterrupt):
        extract_keywords(make_run(tmp_path, Dies()))
    model = FakeModel()
    extract_keywords(make_run(tmp_path, model))
    assert len(model.asked) == 1 and read(tmp_path)["a"] == ["war", "sea"]


def test_an_endpoint_answers_in_place_of_the_language_model(tmp_path, monkeypatch):
    lock, asked = threading.Lock(), []

    def once(self: Any, prompt: str, max_tokens: int) -> Any:
        from recgen.features.endpoint import Reply

        with lock:
            asked.append(prompt)
        return Reply("Ocean, ocean, Ship", 10, 3)

    monkeypatch.setattr("recgen.features.endpoint.ChatService._once", once)
    shared = tmp_path / "shared.sqlite"
    settings = {
        "llm": None,
        "keywords": {"endpoint": {"url": "http://127.0.0.1:9", "model": "m", "cache": str(shared)}},
    }
    extract_keywords(make_run(tmp_path, **settings))
    (tmp_path / "other").mkdir()
    extract_keywords(make_run(tmp_path / "other", **settings))
    assert len(asked) == 2 and read(tmp_path / "other")["a"] == ["ocean", "ship"], (
        "two runs may share what was paid for"
    )


def test_without_a_model_or_an_endpoint_it_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"own\.yaml: recgen\.llm: found null.*keywords"):
        extract_keywords(make_run(tmp_path, llm=None))
