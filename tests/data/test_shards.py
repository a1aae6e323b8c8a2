"""Shards: what is packed is read back by its path, by its place, and by any reader of tar archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from recgen.data.images import MAX_BYTES, BadImageError, read_image
from recgen.data.shards import is_packed, place, read_file, read_range, write_shard


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "a/0000000.tar"
    samples = ((f"k{n}", {"png": png(n), "json": json.dumps({"n": n}).encode()}) for n in range(4))
    places = write_shard(path, samples)
    assert list(places)[:2] == ["k0.png", "k0.json"]
    assert places["k3.png"] == place(path / "k3.png")
    return path


def test_an_image_is_read_by_its_path_and_by_its_place(shard):
    for number in range(4):
        path = shard / f"k{number}.png"
        assert is_packed(path) and not is_packed(shard)
        assert read_file(path) == read_range(shard, *place(path)) == png(number)
        assert np.array_equal(read_image(path), Image.open(io.BytesIO(png(number))))
    assert not list(shard.parent.glob(".tmp-*"))


def test_it_is_a_tar_whose_samples_stand_together(shard):
    """As webdataset asks: files of one key behind each other, the key being what stands before the first dot."""
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        assert names == [f"k{n}.{ending}" for n in range(4) for ending in ("png", "json")]
        assert json.load(archive.extractfile("k2.json")) == {"n": 2}


def test_equal_samples_make_equal_bytes(shard, tmp_path):
    again = tmp_path / "b.tar"
    write_shard(again, [(f"k{n}", {"png": png(n), "json": b'{"n": %d}' % n}) for n in range(4)])
    assert again.read_bytes() == shard.read_bytes()


def test_one_written_anew_is_read_anew(shard):
    assert read_file(shard / "k0.png") == png(0)
    write_shard(shard, [("k9", {"png": png(9)}), ("k0", {"png": png(7)})])
    assert read_file(shard / "k0.png") == png(7)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("no.png", "cannot be opened"), ("k0.json", "not a JPEG"), ("../x.png", "cannot be opened")],
)
def test_what_is_no_image_of_it_is_said_to_be_none(shard, name, problem):
    with pytest.raises(BadImageError, match=problem):
        read_image(shard / name)


def test_a_damaged_shard_has_no_images(shard):
    data = bytearray(shard.read_bytes())
    data[0] ^= 1  # the first header's sum is wrong
    shard.write_bytes(bytes(data))
    with pytest.raises(FileNotFoundError):
        read_file(shard / "k0.png")
    with pytest.raises(BadImageError):
        read_image(shard / "k0.png")


def test_an_image_too_large_is_not_read(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, size in (("big.png", MAX_BYTES + 1), ("empty.png", 0)):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    with pytest.raises(BadImageError, match="64 MiB; at most 64"):
        read_image(path / "big.png")
    with pytest.raises(BadImageError, match="empty"):
        read_image(path / "empty.png")


def test_a_folder_that_is_called_as_a_shard_is_a_folder(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar/a.png").write_bytes(png(1))
    assert not is_packed(tmp_path / "x.tar/a.png")
    assert hashlib.sha256(read_file(tmp_path / "x.tar/a.png")).digest() == hashlib.sha256(png(1)).digest()
    assert read_image(tmp_path / "x.tar/a.png").size == (9, 9)
