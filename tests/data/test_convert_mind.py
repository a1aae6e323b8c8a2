"""MIND in its published layout: quotes that mean nothing, empty histories, a test set without labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from converted import dropped, histories, images, kept, table
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.convert import mind


def news(number: int, title: str) -> str:
    entities = '[{"Label": "A \\"b\\"", "Type": "P"}]'
    return f"N{number}\tsports\tgolf\t{title}\tAbstract {number}\thttps://host.invalid/{number}.html\t{entities}\t[]"


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two folders, as published; U1 is in both."""
    train, dev = tmp_path / "mind/MINDsmall_train", tmp_path / "mind/MINDsmall_dev"
    for folder in (train, dev):
        folder.mkdir(parents=True)
    titles = ['"Unclosed quote', 'Say "yes", please', "Plain", "Fourth", "Fifth", "Sixth", "Nobody's"]
    (train / "news.tsv").write_text(
        "\n".join(news(n, title) for n, title in enumerate(titles, 1)) + "\n", encoding="utf-8"
    )
    (dev / "news.tsv").write_text(
        news(3, "Plain") + "\n" + news(8, "Eighth") + "\nbroken\trow\n", encoding="utf-8"
    )
    behaviours = [
        "1\tU1\t11/13/2019 8:36:57 AM\tN1 N2\tN3-1 N4-0",
        "2\tU1\t11/12/2019 6:11:30 PM\tN1 N2\tN5-0 N4-1",
        "3\tU2\t11/13/2019 12:00:00 AM\t\tN1-1 N2-1 N6-1",
        "4\tU3\t11/13/2019 9:00:00 AM\tN1\tN2-0",
        "5\tU4\tyesterday\tN1 N2 N3\tN4-1",
        "6\tU5\t11/14/2019 1:02:03 PM\tN1 N99 N2 N3\tN4 N5",
    ]
    (train / "behaviors.tsv").write_text("\n".join(behaviours) + "\n")
    (dev / "behaviors.tsv").write_text("9\tU1\t11/15/2019 7:00:00 AM\tN1 N2\tN8-1 N3-1\n")
    return tmp_path / "mind"


def test_clicks_of_both_folders_in_the_order_of_time(raw, tmp_path):
    mind.prepare(raw, tmp_path / "out")
    read = {"U1": ["N1", "N2", "N4", "N3", "N8"], "U2": ["N1", "N2", "N6"], "U5": ["N1", "N2", "N3"]}
    assert histories(tmp_path / "out") == read
    rows = table(tmp_path / "out", "inter").query("user_id == 'U1'")
    assert rows["timestamp"].astype(int).tolist()[2:4] == [1573582290, 1573634217], (
        "18:11:30 and 8:36:57, read as UTC"
    )
    assert dropped(tmp_path / "out") == {
        "shown news: no label, as in the test set": 2,
        "interactions: the same user and item again": 3,
        "interactions: news without a usable row in news.tsv": 1,
        "impressions: a time that cannot be read": 1,
        "histories: empty": 1,
        "users: fewer than 3 likes": 1,
        "interactions: of users with fewer than 3 likes": 1,
        "items: not 8 fields in news.tsv": 1,
        "items: nobody who stayed clicked it": 2,
        "items: an item that was there before": 1,
    }


def test_quotes_are_letters(raw, tmp_path):
    mind.prepare(raw, tmp_path / "out")
    items = table(tmp_path / "out", "item").set_index("item_id")
    assert items.loc["N1", "title"] == '"Unclosed quote' and items.loc["N2", "title"] == 'Say "yes", please'
    assert items.loc["N2"].tolist()[1:] == ["sports", "golf", "Abstract 2"]
    assert set(items.index) == {"N1", "N2", "N3", "N4", "N6", "N8"}


def test_images_that_somebody_gathered(raw, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images/N3.jpg")
    mind.prepare(raw, tmp_path / "out", images=tmp_path / "images")
    assert images(tmp_path / "out") == {"N3": "N3"} and kept(tmp_path / "out")["images"] == 1
    mind.prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out/images.csv").exists(), "no list of images stays from another time"


def test_one_folder_alone(raw, tmp_path):
    mind.prepare(raw / "MINDsmall_train", tmp_path / "out")
    assert set(histories(tmp_path / "out")) == {"U1", "U2", "U5"}
    (raw / "MINDsmall_train/news.tsv").unlink()
    with pytest.raises(UserError, match="no news.tsv"):
        mind.prepare(raw / "MINDsmall_train", tmp_path / "out")
