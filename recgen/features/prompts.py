"""What the language models are asked, in one place: the shipped one is trained on these very sentences."""

from __future__ import annotations

from collections.abc import Sequence


def item_prompt(caption: str, text: str, n: int) -> str:
    """Return p_k of RAGAR eq. 6: asks for at most `n` keywords of an item from its picture's caption and its own text."""
    parts = [f"Picture: {caption}."] if caption else []
    parts += [f"Text: {text}."] if text else []
    asked = f"Keywords that say what this item shows and is about (at most {n}, separated by commas):"
    return "\n".join([*parts, asked])


def preference_prompt(keywords: Sequence[str], text: str = "") -> str:
    """Return p_g of RAGAR eq. 7: asks for the picture, of the item of `text`, that a person of these keywords would like best."""
    liked = ", ".join(keywords) or "anything"
    asked = f"A person likes: {liked}.\nThe picture this person would like best:"
    return f"Text: {text}.\n{asked}" if text else asked
