"""I-AM-G's interest rewrite, known answers: which tags, in which order, and what happens to a text that is too long."""

from __future__ import annotations

import pytest
import torch

from generators.iamg.rewrite import interest_tags, rewrite, without_content
from generators.iamg.settings import Settings
from recgen.diffusion.backbone import load_backbone


def words_up_to(limit: int):
    return lambda text: len(text.split()) <= limit


def test_the_most_frequent_tags_of_the_history_but_never_the_items_own() -> None:
    history = [("red", "dots"), ("red", "skull"), ("blue", "dots"), ("red", "bars", "red")]
    assert interest_tags(history, (), 2) == ("red", "dots")
    assert interest_tags(history, ("red", "unseen"), 2) == ("dots", "bars")
    assert interest_tags(history, (), 0) == interest_tags([], (), 4) == ()


def test_what_a_liked_items_own_text_names_is_no_interest() -> None:
    assert without_content(("skull", "Dark red", "dots"), "A skull, dark; dotted") == ("Dark red", "dots")
    assert without_content(("dark red",), "dark skull on RED ground") == ()
    assert without_content(("skull",), "skulls") == ("skull",) and without_content((), "a") == ()


def test_ties_go_to_what_was_seen_later_and_then_to_what_is_named_first() -> None:
    assert interest_tags([("a", "b"), ("c", "d")], (), 3) == ("c", "d", "a")
    assert interest_tags([("b", "a"), ("c",), ("a", "b")], (), 3) == ("a", "b", "c")


def test_the_text_is_followed_by_its_tags_and_the_users() -> None:
    template = Settings().template
    found = rewrite("A film.", ("war",), ("calm", "blue"), template, "poster", lambda _: True)
    assert found.text == "A film. This poster shows war. It may appeal to those who like calm, blue."
    assert (found.tags, found.interest, found.cut, found.left_out) == (("war",), ("calm", "blue"), 0, ())
    assert (
        rewrite("A film.", ("war",), (), template, "poster", lambda _: True).text
        == "A film. This poster shows war."
    )
    assert rewrite("A film.", (), (), template, "poster", lambda _: True).text == "A film."
    assert rewrite("", ("war",), (), (", {tags}",), "poster", lambda _: True).text == "war"


def test_braces_of_a_text_and_of_tags_are_left_as_they_are() -> None:
    found = rewrite("{interest} {0}", ("{domain}",), (), (" {tags}",), "poster", lambda _: True)
    assert found.text == "{interest} {0} {domain}"


def test_a_long_text_loses_words_of_its_end_and_no_tag() -> None:
    found = rewrite("one two three four", ("a", "b"), ("c",), (" {tags}", " {interest}"), "x", words_up_to(5))
    assert found.text == "one two a, b c" and found.cut == 2 and found.left_out == ()
    exact = rewrite("one two three four", ("a", "b"), ("c",), (" {tags}", " {interest}"), "x", words_up_to(7))
    assert exact.text == "one two three four a, b c" and exact.cut == 0


def test_tags_go_only_where_there_is_no_room_without_the_text() -> None:
    found = rewrite("one two", ("a", "b"), ("c", "d", "e"), (" {interest}", " {tags}"), "x", words_up_to(3))
    assert found.text == "c a, b" and found.left_out == ("e", "d") and found.cut == 2
    assert (found.tags, found.interest) == (("a", "b"), ("c",))
    assert rewrite("one", ("a",), (), (" {tags}",), "x", lambda _: False).text == ""


@pytest.fixture(scope="module")
def demo():
    return load_backbone("demo-sd", "demo-ip-adapter")


def test_tokens_are_those_of_the_backbones_text_encoder(demo) -> None:
    """What the rewrite calls short enough is context to its last tag; one word more is not."""

    def fits(text: str) -> bool:
        return demo.count_tokens(text) <= demo.prompt_limit

    long = " ".join(["garden"] * 60)
    found = rewrite(long, ("skull",), ("mint", "dots"), (", {interest}", ", {tags}"), "poster", fits)
    assert (
        demo.prompt_limit == 32
        and demo.count_tokens(found.text) <= 32
        and found.cut > 0
        and not found.left_out
    )
    kept = found.text.split(", ", 1)
    assert not fits(", ".join([kept[0] + " garden", kept[1]])) and found.text.endswith("mint, dots, skull")
    context = demo.pipeline.tokenizer(found.text, truncation=True, max_length=32).input_ids
    assert "skull" in demo.pipeline.tokenizer.decode(context)
    ends = demo.end_states([found.text, "a skull"])
    assert ends.shape == (2, 128)
    torch.testing.assert_close(ends[1], demo.embed_prompts(["a skull"])[0, demo.count_tokens("a skull") - 1])
