"""The downloader against a server that times out, cuts short, lies, loops, sends a gigabyte and dies."""

from __future__ import annotations

import csv
import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from image_server import GIGABYTE, Server, png, serving

from recgen.core.errors import UserError
from recgen.core.io import identity
from recgen.data.download import fetching
from recgen.data.download.downloader import FAILED, download
from recgen.data.download.fetching import Limits
from recgen.data.images import ENDINGS, read_image

QUICK = Limits(timeout=0.3, deadline=0.8, tries=2, pause=0.05, max_bytes=2**20, allow_private=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


def list_of(path: Path, urls: dict[str, str]) -> Path:
    pd.DataFrame({"item_id": list(urls), "url": list(urls.values())}).to_csv(path, index=False)
    return path


def failures(out: Path) -> dict[str, tuple[str, str]]:
    with (out / FAILED).open(newline="") as file:
        return {row["item_id"]: (row["when"], row["reason"]) for row in csv.DictReader(file)}


def test_every_fault_is_told_apart_and_costs_no_other_image(server, tmp_path):
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    kinds = [
        "good", "mislabelled", "lie", "bomb", "silent", "slow", "cut", "cutonce", "unannounced", "loop", "moved", "escape",
        "gone", "broken", "brokenonce",
    ]  # fmt: skip
    urls = {kind: f"{server.url}/{kind}/{number}" for number, kind in enumerate(kinds)}
    urls |= {
        "file": "file:///etc/hostname",
        "nothing": "",
        "words": "not a url",
        "port": "http://host:port/x",
    }
    urls |= {"long": f"http://{'a' * 70}.invalid/x", "closed": f"http://127.0.0.1:{port}/x"}
    urls |= {"bare": f"//127.0.0.1:{server.server_port}/good/99"}
    out = tmp_path / "images"
    counts = download(list_of(tmp_path / "urls.csv", urls), out, QUICK)
    good = {"good", "mislabelled", "cutonce", "moved", "brokenonce", "bare"}
    assert {path.stem for path in out.glob("*.png")} == good and counts["fetched"] == len(good)
    assert read_image(out / "moved.png").getpixel((0, 0)) == (kinds.index("moved"), 0, 77)
    found = failures(out)
    for_now = {name for name, (when, _) in found.items() if when == "for now"}
    assert for_now == {"silent", "slow", "cut", "unannounced", "broken", "closed", "long"}
    reasons = {
        "gone": "status 404", "broken": "status 500", "lie": "the server calls it image/jpeg", "loop": "redirects",
        "bomb": "bomb", "silent": "imed out", "slow": "not finished", "escape": "not a http or https URL",
        "file": "not a http or https URL", "words": "not a http or https URL",
    }  # fmt: skip
    for name, words in reasons.items():
        assert words in found[name][1], (name, found[name])
    assert set(found) == set(urls) - good and counts["failed for now"] + counts["failed for good"] == len(
        found
    )
    assert not list(out.glob(".tmp-*")) and {path.name for path in tmp_path.iterdir()} == {
        "urls.csv",
        "images",
    }


def test_a_gigabyte_is_cut_off(server, tmp_path):
    for number, kind in enumerate(("announced", "not announced")):
        server.sent = 0
        urls = list_of(tmp_path / f"{number}.csv", {kind: f"{server.url}/huge/{number}"})
        download(urls, tmp_path / "images", QUICK)
        assert failures(tmp_path / "images")[kind] == ("for good", f"more than {2**20:,} bytes")
        assert server.sent < GIGABYTE / 20, (
            "what was sent before the connection closed lay in the system's buffers"
        )


def test_the_next_start_tries_what_failed_for_now_and_only_that(server, tmp_path):
    urls = list_of(
        tmp_path / "urls.csv", {kind: f"{server.url}/{kind}/1" for kind in ("good", "gone", "broken")}
    )
    one_try = Limits(allow_private=True, tries=1)
    download(urls, tmp_path / "out", one_try)
    counts = download(urls, tmp_path / "out", one_try)
    assert dict(counts) == {"there before": 1, "failed for good": 1, "failed for now": 1}
    assert server.asked == {"/good/1": 1, "/gone/1": 1, "/broken/1": 2}
    list_of(urls, {kind: f"{server.url}/good/{n}" for n, kind in enumerate(("good", "gone", "broken"))})
    download(urls, tmp_path / "out", one_try)
    assert not (tmp_path / "out" / FAILED).exists(), "other URLs of the same images, and all came"


def test_a_start_that_fetches_nothing_changes_nothing_for_a_run(server, tmp_path):
    urls = list_of(tmp_path / "urls.csv", {kind: f"{server.url}/{kind}/1" for kind in ("good", "broken")})
    download(urls, tmp_path / "out", Limits(allow_private=True, tries=1))
    before = identity(tmp_path / "out", ENDINGS), identity(tmp_path / "out")
    list_of(urls, {"good": f"{server.url}/good/1", "broken": f"{server.url}/gone/1"})
    download(urls, tmp_path / "out", Limits(allow_private=True, tries=1))
    assert identity(tmp_path / "out", ENDINGS) == before[0] and identity(tmp_path / "out") != before[1]


def test_retry_after_holds_back_the_whole_host(server, tmp_path):
    urls = {"busy": f"{server.url}/busy/1"} | {f"g{n}": f"{server.url}/good/{n}" for n in range(3)}
    counts = download(
        list_of(tmp_path / "urls.csv", urls),
        tmp_path / "out",
        Limits(allow_private=True, per_host=1, tries=2, pause=0.0),
    )
    assert counts["fetched"] == 4
    first, second = server.times["/busy/1"]
    others = [moment for n in range(3) for moment in server.times[f"/good/{n}"]]
    assert second - first >= 1 and all(moment >= first + 1 for moment in others)


def test_a_wait_until_tomorrow_is_for_the_next_start(server, tmp_path):
    download(
        list_of(tmp_path / "urls.csv", {"t": f"{server.url}/tomorrow/1"}),
        tmp_path / "out",
        Limits(allow_private=True),
    )
    assert failures(tmp_path / "out")["t"] == ("for now", "status 429") and server.asked["/tomorrow/1"] == 1


def test_no_host_gets_more_than_its_share(server, tmp_path):
    server.delay = 0.02
    urls = {f"i{n}": f"{server.url}/good/{n}" for n in range(30)}
    download(
        list_of(tmp_path / "urls.csv", urls),
        tmp_path / "out",
        Limits(allow_private=True, workers=12, per_host=3),
    )
    assert server.most_at_once == 3


def test_a_dead_host_is_left_alone(tmp_path):
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    urls = {f"i{n}": f"http://127.0.0.1:{port}/{n}" for n in range(200)}
    counts = download(
        list_of(tmp_path / "urls.csv", urls),
        tmp_path / "out",
        Limits(allow_private=True, pause=30.0, per_host=4),
    )
    assert counts == {"failed for now": 200}
    assert sum("did not answer" in reason for _, reason in failures(tmp_path / "out").values()) > 150


def test_names_stay_in_the_folder(server, tmp_path):
    table = pd.DataFrame({
        "item_id": ["a/b", "日本", "c", "d", "e"],
        "file": ["", "", "../../outside", ".hidden", "/tmp/absolute"],
        "url": [f"{server.url}/good/{n}" for n in range(5)],
    })  # fmt: skip
    table.to_parquet(tmp_path / "urls.parquet")
    counts = download(tmp_path / "urls.parquet", tmp_path / "in/out", Limits(allow_private=True))
    assert dict(counts) == {"fetched": 2, "failed for good": 3}
    names = sorted(path.name for path in (tmp_path / "in/out").glob("*.png"))
    assert len(names) == 2 and all(name.startswith("x-") for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {"urls.parquet", "in"} and len(
        list((tmp_path / "in").iterdir())
    ) == 1


def test_a_list_that_is_none(tmp_path):
    (tmp_path / "urls.csv").write_text("item_id,link\n1,http://host/x\n")
    with pytest.raises(UserError, match="expected one column 'url'"):
        download(tmp_path / "urls.csv", tmp_path / "out")


def test_a_thousand_images_through_two_kills(server, tmp_path):
    server.delay = 0.004
    urls = list_of(tmp_path / "urls.csv", {f"i{n}": f"{server.url}/good/{n}" for n in range(1000)})
    out = tmp_path / "out"
    script = "from recgen.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "data",
        "download",
        "--urls",
        str(urls),
        "--out",
        str(out),
        "--per-host",
        "8",
        "--allow-private",
    ]
    for share in (250, 600):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("*.png"))) < share:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was still at work"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "there before" in done.stdout
    assert all(read_image(out / f"i{n}.png").getpixel((0, 0)) == (n % 256, n // 256, 77) for n in range(1000))
    assert (
        len(list(out.glob("*.png"))) == 1000 and not list(out.glob(".tmp-*")) and not (out / FAILED).exists()
    )
    assert sum(server.asked.values()) <= 1000 + 2 * 8, "only what was under way at a kill is fetched again"
    assert png(1) != png(257)


def test_hostile_servers_cost_no_other_image(server, tmp_path):
    kinds = (
        "nonsense/0",
        "nonsense/1",
        "nonsense/2",
        "drip/1",
        "ages/1",
        "endless/0",
        "endless/1",
        "packed/9",
        "good/1",
    )
    urls = list_of(tmp_path / "urls.csv", {kind: f"{server.url}/{kind}" for kind in kinds})
    started = time.monotonic()
    counts = download(urls, tmp_path / "out", QUICK)
    found = failures(tmp_path / "out")
    assert counts["fetched"] == 2 and set(found) == set(kinds) - {"good/1", "packed/9"}
    assert time.monotonic() - started < 10 and server.asked["/good/9"] == 1
    words = {
        "nonsense/0": "not a URL", "nonsense/1": "not a http or https URL", "nonsense/2": "not a URL", "drip/1": "not finished",
        "ages/1": "status 429", "endless/1": "more than",
    }  # fmt: skip
    for name, part in words.items():
        assert part in found[name][1], (name, found[name])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"])
def test_private_addresses_are_refused(server, tmp_path, host):
    urls = list_of(tmp_path / "urls.csv", {"a": f"http://{host}:{server.server_port}/good/1"})
    download(urls, tmp_path / "out", Limits(tries=1))
    when, reason = failures(tmp_path / "out")["a"]
    assert when == "for good" and "private network" in reason and not server.asked


def test_a_name_that_stands_for_a_private_address_is_refused_before_anything_is_sent(
    server, tmp_path, monkeypatch
):
    resolve = socket.getaddrinfo
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
    )
    urls = list_of(tmp_path / "urls.csv", {"a": f"http://images.example:{server.server_port}/good/1"})
    download(urls, tmp_path / "out", Limits(tries=1))
    assert "127.0.0.1 is an address of a private network" in failures(tmp_path / "out")["a"][1]
    assert not server.asked


def test_an_item_on_several_rows_is_fetched_once_from_the_first_url_that_has_it(server, tmp_path):
    places = ["gone/1", "good/2", "good/3", "good/2"] + ["good/4"] * 30
    items = ["a"] * 4 + ["b"] * 30
    table = pd.DataFrame({"item_id": items, "url": [f"{server.url}/{place}" for place in places]})
    table.to_csv(tmp_path / "urls.csv", index=False)
    counts = download(tmp_path / "urls.csv", tmp_path / "out", QUICK)
    assert counts == {"fetched": 2, "there before": 31, "failed for good": 1}
    assert read_image(tmp_path / "out/a.png").getpixel((0, 0))[0] == 2
    assert (
        server.asked == {"/gone/1": 1, "/good/2": 1, "/good/4": 1}
        and not (tmp_path / "out" / FAILED).exists()
    )


def test_what_a_worker_raises_is_that_urls_reason(server, tmp_path, monkeypatch):
    def raises(path: Path) -> str:
        if path.name.endswith("bad"):
            raise RuntimeError("a library fell over")
        return ".png"

    monkeypatch.setattr(fetching, "_kind", raises)
    names = [f"i{n}" for n in range(30)] + [f"i{n}bad" for n in range(30)]
    urls = list_of(tmp_path / "urls.csv", {name: f"{server.url}/good/{n}" for n, name in enumerate(names)})
    counts = download(urls, tmp_path / "out", QUICK)
    assert counts == {"fetched": 30, "failed for good": 30}
    assert failures(tmp_path / "out")["i3bad"] == ("for good", "RuntimeError: a library fell over")


def test_a_full_disk_ends_the_download(server, tmp_path, monkeypatch):
    def full(path: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "_kind", full)
    urls = list_of(tmp_path / "urls.csv", {f"i{n}": f"{server.url}/good/{n}" for n in range(9)})
    with pytest.raises(OSError, match="No space"):
        download(urls, tmp_path / "out", QUICK)
