"""Keywords of a history by counting."""

from __future__ import annotations

from recgen.features.keywords import Keywords


def test_keywords_are_what_a_history_shares():
    texts = ["red war film", "blue war film", "a love film", "a love song", "green film", "old film"]
    assert Keywords(texts).of([texts[0], texts[1]], n=2) == ["war", "film"]
    assert Keywords(texts).of([texts[2], texts[3]], n=1) == ["love"]
    assert Keywords(texts).of([]) == []
