"""The downloader against a server that times out, cuts short, lies, loops, sends a gigabyte and dies."""

from __future__ import annotations

import csv
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
from recgen.data.download.downloader import FAILED, download
from recgen.data.download.fetching import Limits
from recgen.data.images import ENDINGS, read_image

QUICK = Limits(timeout=0.3, deadline=0.8, tries=2, pause=0.05, max_bytes=2**20)


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
    one_try = Limits(tries=1)
    download(urls, tmp_path / "out", one_try)
    counts = download(urls, tmp_path / "out", one_try)
    assert dict(counts) == {"there before": 1, "failed for good": 1, "failed for now": 1}
    assert server.asked == {"/good/1": 1, "/gone/1": 1, "/broken/1": 2}
    list_of(urls, {kind: f"{server.url}/good/{n}" for n, kind in enumerate(("good", "gone", "broken"))})
    download(urls, tmp_path / "out", one_try)
    assert not (tmp_path / "out" / FAILED).exists(), "other URLs of the same images, and all came"


def test_a_start_that_fetches_nothing_changes_nothing_for_a_run(server, tmp_path):
    urls = list_of(tmp_path / "urls.csv", {kind: f"{server.url}/{kind}/1" for kind in ("good", "broken")})
    download(urls, tmp_path / "out", Limits(tries=1))
    before = identity(tmp_path / "out", ENDINGS), identity(tmp_path / "out")
    list_of(urls, {"good": f"{server.url}/good/1", "broken": f"{server.url}/gone/1"})
    download(urls, tmp_path / "out", Limits(tries=1))
    assert identity(tmp_path / "out", ENDINGS) == before[0] and identity(tmp_path / "out") != before[1]


def test_retry_after_holds_back_the_whole_host(server, tmp_path):
    urls = {"busy": f"{server.url}/busy/1"} | {f"g{n}": f"{server.url}/good/{n}" for n in range(3)}
    counts = download(
        list_of(tmp_path / "urls.csv", urls), tmp_path / "out", Limits(per_host=1, tries=2, pause=0.0)
    )
    assert counts["fetched"] == 4
    first, second = server.times["/busy/1"]
    others = [moment for n in range(3) for moment in server.times[f"/good/{n}"]]
    assert second - first >= 1 and all(moment >= first + 1 for moment in others)


def test_a_wait_until_tomorrow_is_for_the_next_start(server, tmp_path):
    download(list_of(tmp_path / "urls.csv", {"t": f"{server.url}/tomorrow/1"}), tmp_path / "out", Limits())
    assert failures(tmp_path / "out")["t"] == ("for now", "status 429") and server.asked["/tomorrow/1"] == 1


def test_no_host_gets_more_than_its_share(server, tmp_path):
    server.delay = 0.02
    urls = {f"i{n}": f"{server.url}/good/{n}" for n in range(30)}
    download(list_of(tmp_path / "urls.csv", urls), tmp_path / "out", Limits(workers=12, per_host=3))
    assert server.most_at_once == 3


def test_a_dead_host_is_left_alone(tmp_path):
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    urls = {f"i{n}": f"http://127.0.0.1:{port}/{n}" for n in range(200)}
    counts = download(list_of(tmp_path / "urls.csv", urls), tmp_path / "out", Limits(pause=30.0, per_host=4))
    assert counts == {"failed for now": 200}
    assert sum("did not answer" in reason for _, reason in failures(tmp_path / "out").values()) > 150


def test_names_stay_in_the_folder(server, tmp_path):
    table = pd.DataFrame({
        "item_id": ["a/b", "日本", "c", "d", "e"],
        "file": ["", "", "../../outside", ".hidden", "/tmp/absolute"],
        "url": [f"{server.url}/good/{n}" for n in range(5)],
    })  # fmt: skip
    table.to_parquet(tmp_path / "urls.parquet")
    counts = download(tmp_path / "urls.parquet", tmp_path / "in/out", Limits())
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
