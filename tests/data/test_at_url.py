"""Data at URLs: fetched once, known by what the store says of them, and whole; on S3 (moto's server) and in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recgen.core.errors import UserError
from recgen.core.machine import wait_lock
from recgen.core.remote import Remote
from recgen.data import at_url
from recgen.data.at_url import UrlFolder, copy_of, folder, image_file
from recgen.data.images import ENDINGS

KEY = "shop.yaml: recgen.images"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["s3", "file"])
def url(request, tmp_path) -> str:
    """A folder of three images and a list, one image in a folder of its own."""
    if request.param == "s3":
        place = f"{request.getfixturevalue('bucket')}/{tmp_path.name}/data"
    else:
        place = f"file://{tmp_path}/far/data"
    for name in ("a.png", "b.png", "deep/c.png", "list.csv"):
        Remote(place).commit(name, f"{name} as it was".encode())
    return place


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The names of the files that are fetched from now on."""
    names, download = list[str](), Remote.download

    def noting(self, sizes, *arguments):
        names.extend(sizes)
        download(self, sizes, *arguments)

    monkeypatch.setattr(Remote, "download", noting)
    return names


def bring(url: str, **options) -> UrlFolder:
    found = UrlFolder(url, KEY, **options)
    found.bring(found.listed)
    return found


def copies(url: str) -> dict[str, str]:
    place = copy_of(url)
    return {
        path.relative_to(place).as_posix(): path.read_text() for path in place.rglob("*") if path.is_file()
    }


def test_what_is_there_is_fetched_once(url, fetched):
    first = bring(url)
    assert copies(url) == {name: f"{name} as it was" for name in ("a.png", "b.png", "list.csv")}
    assert sorted(fetched) == sorted(copies(url))
    again = bring(url)
    assert len(fetched) == 3 and again.identity(ENDINGS) == first.identity(ENDINGS)
    bring(url, deep=True)
    assert fetched[3:] == ["deep/c.png"], "and what was fetched from the folder above counts"
    bring(f"{url}/deep")
    bring(url, names=["list.csv", "absent.csv"])
    assert len(fetched) == 4
    assert image_file(Path("run"), f"{url}/deep/c.png").read_text() == "deep/c.png as it was"
    assert image_file(Path("run"), "dataset/images/0.png") == Path("run/dataset/images/0.png")


def test_what_has_changed_is_fetched_again_and_counts_as_changed(url, fetched):
    before = bring(url)
    Remote(url).commit("b.png", b"b.png as it is!")  # of the same size
    after = bring(url)
    assert fetched[3:] == ["b.png"] and copies(url)["b.png"] == "b.png as it is!"
    assert after.identity(ENDINGS) != before.identity(ENDINGS)
    assert after.mark("b.png") != before.mark("b.png") and after.mark("a.png") == before.mark("a.png")
    assert after.mark("d.png") == "absent"


def test_what_is_gone_there_is_gone_here(url):
    bring(url, deep=True)
    Remote(url).remove(["deep", "a.png"])
    bring(url)
    assert sorted(copies(url)) == ["b.png", "deep/c.png", "list.csv"], (
        "of the folder itself, which was looked at"
    )
    bring(url, deep=True)
    assert sorted(copies(url)) == ["b.png", "list.csv"] and not (copy_of(url) / "deep").exists()


def test_a_damaged_or_deleted_copy_is_fetched_again(url, fetched):
    bring(url)
    (copy_of(url) / "a.png").write_text("cut")
    (copy_of(url) / "b.png").unlink()
    bring(url)
    assert sorted(fetched[3:]) == ["a.png", "b.png"] and copies(url)["a.png"] == "a.png as it was"


def test_a_kill_costs_the_files_that_were_on_their_way(url, fetched, monkeypatch):
    monkeypatch.setattr(at_url, "_AT_ONCE", 1)
    put = UrlFolder._put

    def interrupted(self, name, draft, size):
        if name == "b.png":
            draft.write_text("b.p")
            raise KeyboardInterrupt
        put(self, name, draft, size)

    monkeypatch.setattr(UrlFolder, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bring(url)
    assert copies(url) == {"a.png": "a.png as it was"}
    monkeypatch.setattr(UrlFolder, "_put", put)
    bring(url)
    assert fetched == ["a.png", "b.png", "b.png", "list.csv"] and copies(url)["b.png"] == "b.png as it was"
    assert not list(folder().glob(".tmp-*")), "nor is what was on its way left"


def test_an_interrupted_replacement_is_not_taken_for_the_old_contents(url, monkeypatch):
    bring(url)
    Remote(url).commit("b.png", b"b.png as it is!")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(at_url._Index, "keep", _interrupted)
        bring(url)
    Remote(url).commit("b.png", b"b.png as it was")  # back again
    bring(url)
    assert copies(url)["b.png"] == "b.png as it was"


def _interrupted(self, marks):
    raise KeyboardInterrupt


def test_a_file_that_comes_short_is_not_used(url, monkeypatch):
    download: Callable = Remote.download

    def cutting(self, sizes, drafts, arrived):
        download(self, sizes, drafts, arrived)
        drafts[0].write_bytes(drafts[0].read_bytes()[:4])

    monkeypatch.setattr(Remote, "download", cutting)
    with pytest.raises(UserError, match=r"recgen.images .*/a\.png: found 4 bytes of it; expected 15"):
        bring(url)
    assert "a.png" not in copies(url)


def test_files_of_any_size_come_whole_and_are_told_of(url, monkeypatch, caplog):
    monkeypatch.setattr("recgen.core.remote._PIECE", 2**20)
    monkeypatch.setattr("recgen.core.progress._EVERY", {True: 0.0, False: 0.0})
    large = b"0123456789" * 300_000
    Remote(url).commit("large.npy", large)
    with caplog.at_level("INFO", "recgen"):
        bring(url)
    assert (copy_of(url) / "large.npy").read_bytes() == large
    assert f"MiB of {url}: 3/3" in caplog.text and f"{url}: fetching 4 files" in caplog.text


def test_a_second_process_waits_for_the_first(url, in_child, tmp_path, caplog):
    import multiprocessing

    held = multiprocessing.get_context("fork").Event()

    def hold() -> None:
        with wait_lock(folder() / ".turns", url):
            held.set()
            time.sleep(0.5)

    child = multiprocessing.get_context("fork").Process(target=hold)
    child.start()
    assert held.wait(10)
    started = time.monotonic()
    with caplog.at_level("INFO", "recgen"):
        bring(url)
    waited = time.monotonic() - started
    child.join()
    assert waited > 0.3 and "another process is fetching" in caplog.text
    assert len(copies(url)) == 3


def test_a_name_that_leads_out_of_the_folder_is_refused(bucket, tmp_path):
    url = f"{bucket}/{tmp_path.name}/data"
    Remote(url).commit("../../../../evil.png", b"")
    with pytest.raises(UserError, match=rf"{KEY} {url}: found a file named '../../../../evil.png'"):
        bring(url, deep=True)
    assert not list(tmp_path.rglob("evil.png"))
    with pytest.raises(UserError, match=r"found '\.\.' in it"):
        UrlFolder(f"{url}/../other", KEY)


def test_a_store_that_tells_no_change_is_refused(monkeypatch):
    monkeypatch.setattr(Remote, "entries", lambda self, deep: {"a.png": {"size": 3}})
    monkeypatch.setattr(Remote, "entry", lambda self, name: {"size": 3})
    with pytest.raises(UserError, match="neither a digest of it nor when it was changed"):
        UrlFolder("file:///far", KEY).listed  # noqa: B018


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://no-such-bucket/data", "FileNotFoundError: .*bucket"),
        ("gopher://host/data", "Protocol not known"),
        ("s3://bucket/[data]", "expected an URL without patterns"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_error_with_the_key(bucket, place, message):
    with pytest.raises(UserError, match=message) as raised:
        bring(place)
    assert raised.value.where == f"{KEY} {place}"


def test_no_credentials_are_one_error_with_the_key(bucket, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match="redentials") as raised:
        bring(f"{bucket}/{tmp_path.name}")
    assert raised.value.where.startswith(KEY)
    s3fs.S3FileSystem.clear_instance_cache()
