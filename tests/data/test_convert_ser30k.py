"""SER30K in its published layout, and RAGAR's pseudo-users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from converted import dropped, histories, images, kept, table
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.convert import ser30k

THEMES = {"09-panda-bear": 5, "Cute_Ghost": 4, "猫 cat": 3, "dog": 6}


@pytest.fixture
def raw(tmp_path) -> Path:
    """Four themes; one annotation without an image, one that leads outside, one that is no object."""
    folder, annotations = tmp_path / "SER_Dataset", []
    for theme, count in THEMES.items():
        (folder / "Images" / theme).mkdir(parents=True)
        for number in range(count):
            name = f"sticker_{number}.jpg"
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / "Images" / theme / name)
            anno = {"anno1": 1, "anno2": 2, "anno3": 3, "anno": number % 7 + 1}
            annotations.append(
                {"topic": theme, "file_name": name, "text": 'I\'m, \t"sad"\n' if number == 0 else "", **anno}
            )
    annotations += [{"topic": "dog", "file_name": "sticker_99.jpg", "text": ""}, "no object"]
    annotations += [{"topic": "../..", "file_name": "secret.jpg"}, {"topic": "dog", "file_name": "a\0b.jpg"}]
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (folder / "Annotations").mkdir()
    (folder / "Annotations/all_annos.json").write_text(
        json.dumps({"annotations": annotations}, ensure_ascii=False)
    )
    return folder


def test_two_themes_are_a_history_and_a_third_the_reference(raw, tmp_path):
    ser30k.prepare(raw, tmp_path / "ser", users=40)
    found = histories(tmp_path / "ser")
    assert len(found) == 40
    orders = set()
    for items in found.values():
        *history, reference = (item.split("/")[0] for item in items)
        merged = set(history)
        assert len(merged) == 2 and reference not in merged
        assert len(history) == sum(THEMES[theme] for theme in merged), "all of both themes"
        orders.add(tuple(history) == tuple(sorted(history)))
    assert False in orders, "the themes are mixed"
    assert len({items[-1] for items in found.values()}) > 5


def test_stickers_keep_text_theme_and_image(raw, tmp_path):
    ser30k.prepare(raw, tmp_path / "ser", users=5)
    items = table(tmp_path / "ser", "item").set_index("item_id")
    assert items.loc["09-panda-bear/sticker_0.jpg"].tolist() == ['I\'m, "sad"', "panda bear", "1"]
    assert items.loc["Cute_Ghost/sticker_2.jpg"].tolist() == ["", "Cute Ghost", "3"]
    names = images(tmp_path / "ser")
    assert len(set(names.values())) == sum(THEMES.values()) == kept(tmp_path / "ser")["images"]
    shown = Image.open(tmp_path / f"ser/images/{names['dog/sticker_3.jpg']}.jpg")
    assert shown.tobytes() == Image.open(raw / "Images/dog/sticker_3.jpg").tobytes()
    assert dropped(tmp_path / "ser") == {
        "items: no such image under Images": 3,
        "items: no topic or no file name": 1,
    }


def test_more_users_change_none(raw, tmp_path):
    for count in (5, 12):
        ser30k.prepare(raw, tmp_path / f"s{count}", users=count, seed=4, history=4)
    fewer, more = histories(tmp_path / "s5"), histories(tmp_path / "s12")
    assert all(more[user] == items and len(items) == 5 for user, items in fewer.items()) and len(more) == 12


def test_annotations_in_parts(raw, tmp_path):
    whole = json.loads((raw / "Annotations/all_annos.json").read_text())["annotations"]
    (raw / "Annotations/all_annos.json").unlink()
    with pytest.raises(UserError, match="no annotations"):
        ser30k.prepare(raw, tmp_path / "ser")
    (raw / "Annotations/image-level").mkdir()
    for part, rows in {"train": whole[:10], "val": whole[10:14], "test": whole[14:]}.items():
        (raw / f"Annotations/image-level/{part}.json").write_text(json.dumps({"annotations": rows}))
    ser30k.prepare(raw, tmp_path / "ser", users=3)
    assert kept(tmp_path / "ser")["items"] == sum(THEMES.values())
    (raw / "Annotations/image-level/val.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="val.json"):
        ser30k.prepare(raw, tmp_path / "ser")
    assert kept(tmp_path / "ser")["items"] == sum(THEMES.values()), "what was there stays"
