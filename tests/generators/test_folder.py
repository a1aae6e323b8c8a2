"""folder: which image is for whom, what a manifest may not say, and the contract of every generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contract import REQUESTS, GeneratorContract, ask, pixels
from PIL import Image

from generators.folder import Folder, Images, Settings
from recgen.core.errors import UserError
from recgen.data.types import RunData


def image(path: Path, number: int, edge: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (edge, edge, 3), dtype=np.uint8)).save(
        path
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with an image of every item for all, and one of i4 for u3 alone."""
    folder = tmp_path_factory.mktemp("made")
    rows = [{"user_id": "", "item_id": f"i{n}", "path": f"all/{n}.png"} for n in range(30)]
    rows.append({"user_id": "u3", "item_id": "i4", "path": "own/4.png"})
    for number, row in enumerate(rows):
        image(folder / row["path"], number)
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a manifest of rows, beside one good image a.png."""

    def write(*rows: dict, name: str = "manifest.csv") -> Path:
        image(tmp_path / "a.png", 1)
        table = pd.DataFrame(list(rows))
        table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_csv(
            tmp_path / name, index=False
        )
        return tmp_path

    return write


class TestContract(GeneratorContract):
    @pytest.fixture(autouse=True, scope="class")
    def _folder(self, made: Path) -> None:
        type(self).folder = made

    @classmethod
    def make(cls, backbone, encoder, **changes):
        return Folder(Settings(path=str(cls.folder), **changes), None, encoder)

    @staticmethod
    def batch(size):
        return {}

    @pytest.mark.skip("an image made elsewhere is the same for every seed")
    def test_another_seed_is_another_image(self) -> None: ...


def test_a_users_own_image_goes_before_the_items(made: Path, encoder, data: RunData) -> None:
    generator = Folder(Settings(path=str(made)), None, encoder)
    own, other = generator.generate([ask("u3", "i4"), ask("u2", "i4")], data)
    assert own.recipe == {"file": "own/4.png"} and other.recipe == {"file": "all/4.png"}
    assert np.array_equal(pixels([own])[0], np.asarray(Image.open(made / "own/4.png")) / 255)


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_a_manifest_of_items_needs_no_users(write, name: str) -> None:
    images = Images.read(write({"item_id": 7, "path": "a.png"}, name=name))
    assert (
        images.find(ask("anyone", "7")) == (images.folder / "a.png")
        and images.find(ask("anyone", "8")) is None
    )


def test_a_path_that_no_file_can_have_is_refused(write) -> None:
    with pytest.raises(UserError, match=r"row 2: found path"):
        Images.read(write({"item_id": "i1", "path": "\0.png"}, name="manifest.parquet"))


def test_whole_numbers_beside_missing_ones_are_whole(write) -> None:
    rows = [{"user_id": 12, "item_id": 7, "path": "a.png"}, {"user_id": None, "item_id": 8, "path": "a.png"}]
    images = Images.read(write(*rows, name="manifest.parquet"))
    assert images.paths.keys() == {("12", "7"), ("", "8")}


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"item_id": "i1", "path": "../outside.png"}], r"row 2: found path '../outside.png'.*inside"),
        ([{"item_id": "i1", "path": "/etc/passwd"}], r"row 2: found path '/etc/passwd'"),
        ([{"item_id": "i1", "path": "link/x.png"}], r"row 2: found path 'link/x.png'"),
        ([{"item_id": "i1", "path": "loop"}], r"no usable image for 1 of 1|found path 'loop'"),
        ([{"item_id": "i1", "path": ""}], r"row 2: found item_id 'i1', path ''"),
        ([{"item_id": "i1", "path": "a.png"}] * 2, r"row 3: found user '' and item 'i1' again"),
        ([{"item": "i1", "path": "a.png"}], r"manifest.csv: found columns item, path; expected item_id"),
        ([{"item_id": "i1", "path": "b.png"}], r"1 of 1 requests.*u1, i1 \(b.png: cannot be opened\)"),
        ([{"item_id": "i1", "path": "text.png"}], r"text.png: not a JPEG, PNG or WebP file"),
        ([{"item_id": "i1", "path": "small.png"}], r"small.png: 8 x 8 pixels; at least 16"),
        ([{"item_id": "i2", "path": "a.png"}], r"u1, i1 \(no row\)"),
    ],
)
def test_mistakes_are_one_message_before_anything_is_trained(
    write, tmp_path_factory, rows: list[dict], message: str
) -> None:
    folder = write(*rows)
    outside = tmp_path_factory.mktemp("outside")
    image(outside / "x.png", 3)
    image(folder / "small.png", 2, edge=8)
    (folder / "text.png").write_text("no image")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=message):
        Folder.check(Settings(path=str(folder)), [ask("u1", "i1")])


def test_all_missing_requests_are_counted_and_the_first_named(made: Path) -> None:
    requests = [*REQUESTS, *(ask(f"u{n}", f"x{n}") for n in range(15))]
    with pytest.raises(
        UserError, match=r"15 of 26 requests.*u0, x0 \(no row\).*u9, x9 \(no row\); and 5 more"
    ) as error:
        Folder.check(Settings(path=str(made)), requests)
    assert "x10" not in str(error.value) and "missing: original" in error.value.todo


def test_the_items_own_image_may_stand_in(write, encoder, data: RunData, tmp_path: Path) -> None:
    from dataclasses import replace

    folder = write({"item_id": "i1", "path": "a.png"}, {"item_id": "i3", "path": "gone.png"})
    image(tmp_path / "own.png", 9)
    data = replace(data, images=[None] + [tmp_path / "own.png"] * 29)
    settings = Settings(path=str(folder), missing="original")
    Folder.check(settings, [ask("u1", "i2"), ask("u1", "i3")])
    one, two, three = Folder(settings, None, encoder).generate(
        [ask("u1", "i1"), ask("u1", "i2"), ask("u1", "i3")], data
    )
    assert one.recipe == {"file": "a.png"} and two.recipe == {
        "file": None,
        "original": True,
        "problem": "no row",
    }
    assert three.recipe["problem"] == "cannot be opened"
    assert np.array_equal(pixels([two])[0], np.asarray(Image.open(tmp_path / "own.png")) / 255)
    with pytest.raises(UserError, match="item 'i0'.*no row"):
        list(Folder(settings, None, encoder).generate([ask("u1", "i0")], data))


@pytest.mark.parametrize(
    "path, manifest, message",
    [("nowhere", None, "no folder"), (".", None, "no manifest"), (".", "x.csv", "x.csv")],
)
def test_a_folder_that_is_none_is_named(
    tmp_path: Path, path: str, manifest: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Folder.check(Settings(path=str(tmp_path / path), manifest=manifest), [])


def test_a_manifest_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"manifest.parquet: found no table"):
        Images.read(tmp_path)
