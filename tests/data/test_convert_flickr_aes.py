"""FLICKR-AES in its published layout: a space after each comma, likes from 4 up, users with enough of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from converted import dropped, histories, images, kept, table
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.convert import flickr_aes


def photo(number: int) -> str:
    return f"farm1_{number}_39629{number}_94dae8ad97.jpg"


@pytest.fixture
def raw(tmp_path) -> Path:
    """A eager worker with five likes, one with two; one photo is not there."""
    folder = tmp_path / "flickr"
    (folder / "40K").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (4, 4)).save(folder / "40K" / photo(number))
    rows = [f"A1PLR0K, {photo(n)}, {5 if n < 3 else 4}" for n in (4, 3, 2, 1, 0)] + [
        f"A1PLR0K, {photo(5)}, 3"
    ]
    rows += [f"BUSY, {photo(n)}, {score}" for n, score in enumerate((4, 5, 1, 2, 3, 3))]
    rows += [f"A1PLR0K, {photo(9)}, 5", f"A1PLR0K, ../../{photo(9)}, 5", f"BUSY, {photo(1)}, high"]
    (folder / flickr_aes._RATINGS).write_text(" worker, imagePair, score\n" + "\n".join(rows) + "\n")
    (folder / flickr_aes._SCORES).write_text("".join(f"{photo(n)} 0.{n}\n" for n in range(5)))
    return folder


def test_users_with_enough_likes_stay_with_their_dislikes(raw, tmp_path):
    flickr_aes.prepare(raw, tmp_path / "aes", min_likes=3)
    assert histories(tmp_path / "aes") == {"A1PLR0K": [Path(photo(n)).stem for n in (4, 3, 2, 1, 0, 5)]}
    assert table(tmp_path / "aes", "inter")["rating"].tolist() == ["4", "4", "5", "5", "5", "3"]
    assert dropped(tmp_path / "aes") == {
        "interactions: of users with fewer than 3 likes": 6,
        "users: fewer than 3 likes": 1,
        "interactions: no such photo in 40K": 2,
        "interactions: a score that is no number": 1,
    }


def test_photos_and_their_mean_scores(raw, tmp_path):
    flickr_aes.prepare(raw, tmp_path / "aes", min_likes=2)
    scores = table(tmp_path / "aes", "item").set_index("item_id")["score"]
    assert scores[Path(photo(3)).stem] == "0.3" and scores[Path(photo(5)).stem] == ""
    assert kept(tmp_path / "aes") == {"users": 2, "interactions": 12, "items": 6, "images": 6}
    assert images(tmp_path / "aes") == {Path(photo(n)).stem: Path(photo(n)).stem for n in range(6)}


def test_a_hundred_likes_are_asked_for(raw, tmp_path):
    with pytest.raises(UserError, match="2 users: fewer than 100 likes"):
        flickr_aes.prepare(raw, tmp_path / "aes")
