"""What the language models are asked, in one place: the shipped one is trained on these very sentences."""

from __future__ import annotations

from collections.abc import Sequence


def item_prompt(caption: str, text: str, n: int) -> str:
    """Return p_k of RAGAR eq. 6: asks for at most `n` keywords of an item from its image's caption and its own text."""
    parts = [f"Picture: {caption}."] if caption else []
    parts += [f"Text: {text}."] if text else []
    asked = f"Keywords that say what this item shows and is about (at most {n}, separated by commas):"
    return "\n".join([*parts, asked])


def preference_prompt(keywords: Sequence[str], text: str = "") -> str:
    """Return p_g of RAGAR eq. 7: asks for the image, of the item of `text`, that a person of these keywords would like best."""
    liked = ", ".join(keywords) or "anything"
    asked = f"A person likes: {liked}.\nThe picture this person would like best:"
    return f"Text: {text}.\n{asked}" if text else asked


_ITEMS = {
    "general": (
        "an item",
        "what it shows, colours, material, style, mood",
        "what it is about, kind, style, mood",
    ),
    "movie": (
        "a film by its poster",
        "colours, mood, who is there and how they look, place, symbols, artistic style, culture",
        "mood, characters and what moves them, place, culture",
    ),
    "news": (
        "a piece of news",
        "subject, place, people, colours, mood, style",
        "subject, place, mood, style",
    ),
    "outfit": (
        "a piece of clothing",
        "colours, style, material, pattern, occasion, cut, season",
        "style, pattern, occasion, season",
    ),
}


def image_tags_prompt(domain: str, n: int) -> str:
    """Return p of I-AM-G eq. 2: asks a model that sees an item's image for at most `n` tags."""
    what, focus, _ = _ITEMS[domain]
    return f"This picture shows {what}. Tag it: {focus}.\nAnswer with at most {n} short tags, separated by commas:"


def text_tags_prompt(domain: str, text: str, n: int) -> str:
    """Return p of I-AM-G eq. 3: asks for at most `n` tags of an item from its text.

    In general it is the question for keywords, which the shipped language model has learned and has no other for.
    """
    if domain == "general":
        return item_prompt("", text, n)
    what, _, focus = _ITEMS[domain]
    return f"Text: {text}.\nThe text describes {what}. Tag it: {focus}.\nAnswer with at most {n} tags, separated by commas:"
