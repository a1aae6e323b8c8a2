"""Images that are broken or hostile: each is refused in words, before it can do harm."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from recgen.data.images import BadImageError, image_index, read_image


def reason(path) -> str:
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    return str(caught.value)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose data is short."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of_size(60_000, 60_000))
    assert "decompression bomb" in reason(tmp_path / "bomb.png")
    (tmp_path / "large.png").write_bytes(png_of_size(8_000, 8_000))
    assert "8000 x 8000 pixels" in reason(tmp_path / "large.png")


@pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000), (510, 10)])
def test_a_thread_is_refused_by_its_header(tmp_path, monkeypatch, size):
    Image.new("RGB", size).save(tmp_path / "thread.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert f"{size[0]} x {size[1]} pixels; a side" in reason(tmp_path / "thread.png")


def test_a_banner_is_read(tmp_path):
    Image.new("RGB", (500, 10)).save(tmp_path / "banner.png")
    assert read_image(tmp_path / "banner.png").size == (500, 10)


def test_huge_file_is_not_opened(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(65 * 2**20)
    assert "65 MiB" in reason(tmp_path / "huge.jpg")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_truncated(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"image.{ending}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    assert "cannot be decoded" in reason(path)


def test_what_is_no_image(tmp_path):
    (tmp_path / "x.jpg").write_text("<svg/>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "gif.jpg", format="GIF")
    assert "not a JPEG" in reason(tmp_path / "x.jpg") and "not a JPEG" in reason(tmp_path / "gif.jpg")
    assert reason(tmp_path / "empty.jpg") == "empty file"
    assert reason(tmp_path / "folder.jpg") == "not a file"
    assert reason(tmp_path / "none.jpg") == "cannot be opened"


def test_modes(tmp_path):
    for mode, colour in {"L": 7, "CMYK": (0, 255, 255, 0), "P": 3, "1": 1}.items():
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (4, 4), colour).save(path)
        assert read_image(path).mode == "RGB"
    Image.new("I;16", (4, 4), 40_000).save(tmp_path / "deep.png")
    assert "mode I;16" in reason(tmp_path / "deep.png")


def test_transparent_parts_become_white(tmp_path):
    Image.new("RGBA", (2, 2), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_upright(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=turned)
    assert read_image(tmp_path / "turned.jpg").size == (2, 4)


def test_index_prefers_jpg_and_finds_nothing_outside(tmp_path):
    for name in ("a.png", "a.jpg", "b.webp", "c.txt"):
        (tmp_path / name).touch()
    index = image_index(tmp_path)
    assert {stem: path.name for stem, path in index.items()} == {"a": "a.jpg", "b": "b.webp"}
    assert "../a" not in index
