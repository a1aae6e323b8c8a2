"""The service in a process of its own: what it shows, writes down, refuses, and what is left of it after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from chromium import Browser
from click.testing import CliRunner
from service import click, get, headers, serving, show

import recgen
from recgen.cli import recgen as cli
from recgen.core.provenance import recipe_hash
from recgen.data.click_log import read_log
from recgen.serving.store import Store

pytest.importorskip("fastapi", reason="recgen[serve] is not installed")

ASKED = {"protocol": "blind", "items": 4, "per_item": 6, "per": "group", "groups": 3, "compare": 0}
KEY = "a key of the shop"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def folder(market_config, tmp_path_factory) -> Path:
    """A run whose users share creatives, up to its gate."""
    base = tmp_path_factory.mktemp("serving")
    config = market_config(base, requests=ASKED, gate={"models": []}, controls=[])
    return recgen.run(config, base / "run", until="gate").folder


@pytest.fixture(scope="module")
def tables(folder) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The manifest, the groups by user, and the items."""
    groups = pd.read_parquet(folder / "creatives/groups.parquet").set_index("user_id")
    return (
        pd.read_parquet(folder / "creatives/manifest.parquet"),
        groups,
        pd.read_parquet(folder / "dataset/items.parquet"),
    )


@pytest.fixture(scope="module")
def group(tables) -> tuple[str, str, str, str]:
    """Two users of a group, its representative first, an item that is drawn for it and one that is drawn for nobody."""
    manifest, groups, items = tables
    made = manifest.iloc[0]
    representative = groups.loc[made["user_id"], "representative"]
    members = groups.index[groups["representative"] == representative]
    undrawn = next(item for item in items["item_id"] if item not in set(manifest["item_id"]))
    return representative, next(user for user in members if user != representative), made["item_id"], undrawn


def test_own_then_the_groups_then_the_items_image(folder, tables, group):
    manifest, _, items = tables
    made, (representative, other, _, undrawn) = manifest.iloc[0], group
    with serving(folder) as (address, _):
        own, shared = show(address, representative, made["item_id"]), show(address, other, made["item_id"])
        assert (own["arm"], shared["arm"]) == ("ideal", "group.ideal") and own["recipe"] == shared["recipe"]
        assert own["recipe"] == recipe_hash(made["recipe"]) and own["propensity"] == 1
        status, image = get(address, own["image"])
        assert status == 200 and image == (folder / made["path"]).read_bytes()
        plain = show(address, other, undrawn)
        assert plain["arm"] == "original" and plain["recipe"] is None
        file = items.set_index("item_id").loc[undrawn, "image"]
        assert get(address, plain["image"])[1] == (folder / file).read_bytes()
        stranger = show(address, "nobody", made["item_id"])
        assert stranger["arm"] == "original"
        assert get(address, "/v1/creative", user=other, item="no such")[0] == 404
        assert get(address, "/v1/creative", user="", item=undrawn)[0] == 422
        assert get(address, "/images/" + "0" * 64 + ".png")[0] == 404
        metrics = get(address, "/metrics")[1].decode()
        assert 'recgen_impressions_total{arm="group.ideal"} 1.0' in metrics
        assert 'recgen_queue{state="waiting"} 2.0' in metrics and "recgen_misses_total 2.0" in metrics
        assert 'recgen_request_seconds_count{path="/v1/creative",status="404"} 1.0' in metrics
        schema = json.loads(get(address, "/openapi.json")[1])
        assert {"/v1/creative", "/v1/click", "/health"} <= set(schema["paths"])
        assert b"<form>" in get(address, "/")[1]
    store = Store(folder)
    queued = store.db.execute("select user_id, item_id from queue order by item_id").fetchall()
    store.close()
    wanted = {(other, undrawn), (other, made["item_id"])}
    assert set(queued) == wanted, "what was not shown as its user's own waits; strangers cannot be drawn for"


def test_an_items_image_may_lie_outside_the_run_and_is_not_cached_for_ever(folder, tables, tmp_path):
    """As in every data set that a run does not make itself: items.parquet then has whole paths."""
    manifest, _, items = tables
    item, before = items["item_id"].iloc[0], (folder / "dataset/items.parquet").read_bytes()
    own = folder / items["image"].iloc[0]
    shutil.copy(own, tmp_path / "elsewhere.png")
    moved = items.assign(image=[str(tmp_path / "elsewhere.png"), *items["image"].iloc[1:]])
    moved.to_parquet(folder / "dataset/items.parquet")
    try:
        with serving(folder) as (address, _):
            shown = show(address, "nobody", item)
            assert get(address, shown["image"]) == (200, own.read_bytes())
            assert "immutable" not in headers(address, shown["image"])["cache-control"]
            made = manifest.iloc[0]
            creative = show(address, made["user_id"], made["item_id"])
            assert "immutable" in headers(address, creative["image"])["cache-control"]
            for path in (
                "/items/../dataset/items.parquet",
                "/items/%2Fetc%2Fpasswd",
                "/images/..%2Fitems.png",
            ):
                assert get(address, path)[0] == 404
    finally:
        (folder / "dataset/items.parquet").write_bytes(before)


def test_the_worker_draws_what_was_missing_and_nothing_twice(folder, group):
    _, user, item, undrawn = group
    with serving(folder) as (address, _):
        store = Store(folder)
        show(address, user, undrawn)
        before = show(address, user, item)
        assert before["arm"] == "group.ideal"
        told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once"])
        assert told.exit_code == 0 and "2 drawn, 2 of them accepted" in told.output, told.output
        after = show(address, user, item)
        assert after["arm"] == "ideal" and after["recipe"] != before["recipe"]
        recipe = json.loads(_text(get(address, after["image"])[1]))
        assert (recipe["user"], recipe["item"]) == (user, item)
        assert store.waiting() == {}
        again = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once"])
        assert "0 drawn" in again.output
        store.close()
    with serving(folder) as (address, _):
        assert show(address, user, item)["recipe"] == after["recipe"], "published again, it is still there"


def test_services_and_workers_share_a_database(folder, group, postgres, tmp_path):
    """Two services of one run and a worker, all without the SQLite file; a click comes back through the other service."""
    _, user, item, undrawn = group
    there = ("--database", postgres)
    with serving(folder, *there) as (one, _), serving(folder, *there) as (other, _):
        assert (
            show(one, user, item)["arm"] == "group.ideal" and show(other, user, undrawn)["arm"] == "original"
        )
        told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once", *there])
        assert told.exit_code == 0 and "2 drawn, 2 of them accepted" in told.output, told.output
        shown = show(other, user, item, page="p", position=3)
        assert shown["arm"] == "ideal" and get(one, shown["image"])[0] == 200
        assert click(one, shown["impression"]) == 204 and click(one, "no such") == 404
        for part in ("user=%00&item=i", "user=u&item=%00", "user=u&item=i&page=%00"):
            assert get(one, f"/v1/creative?{part}")[0] == 422
        assert get(one, "/items/%00")[0] == 422
    out = tmp_path / "clicks.parquet"
    told = CliRunner().invoke(cli, ["clicks", "--run", str(folder), "--out", str(out), *there])
    assert told.exit_code == 0 and "3 impressions, 1 clicks" in told.output, told.output
    log = read_log(out).set_index("page_id")
    assert log.loc["p", ["user_id", "item_id", "position", "arm"]].tolist() == [user, item, 3, "ideal"]
    assert log["click"].sum() == 1 and log.loc["p", "click"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:9/none?connect_timeout=2", "refused"),
        ("mysql://me:secret@there/none", "found another kind of address"),
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(folder, url, said):
    told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once", "--database", url])
    assert said in str(told.exception) and "secret" not in str(told.exception)


def test_an_empty_database_has_nothing_to_work_off(folder, postgres):
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as server:
        server.execute("create database empty")
    url = postgres.replace("/postgres?", "/empty?")
    told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once", "--database", url])
    assert "nothing published in the database; expected a run that has been served" in str(told.exception)


def _text(png: bytes) -> str:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert b"trainedAlgorithmicMedia" in image.info["xmp"]
        return str(image.info["recgen"])


def test_what_the_gate_refuses_is_not_shown_and_not_asked_for_again(folder, tables):
    manifest, _, _ = tables
    row = manifest[manifest.duplicated("path", keep=False)].iloc[
        0
    ]  # another user is shown the same image, and may be
    gate = folder / "gate/ideal.parquet"
    table, before = pd.read_parquet(gate), gate.read_bytes()
    table.loc[(table["user_id"] == row["user_id"]) & (table["item_id"] == row["item_id"]), "accepted"] = False
    table.to_parquet(gate)
    try:
        with serving(folder) as (address, _):
            assert show(address, row["user_id"], row["item_id"])["arm"] == "original"
            assert b'state="waiting"' not in get(address, "/metrics")[1]
            same = manifest[(manifest["path"] == row["path"]) & (manifest["user_id"] != row["user_id"])].iloc[
                0
            ]
            assert show(address, same["user_id"], same["item_id"])["arm"] in ("ideal", "group.ideal")
        with serving(folder, "--all") as (address, _):
            assert show(address, row["user_id"], row["item_id"])["arm"] in ("ideal", "group.ideal")
    finally:
        gate.write_bytes(before)


def test_the_worker_asks_the_gate_and_draws_only_what_is_published(folder, group):
    user, _, _, item = group
    config = folder / "config.yaml"
    before, values = config.read_bytes(), yaml.safe_load(config.read_text())
    values["recgen"]["gate"]["attributes"] = (
        1.0  # no creative looks to the tagger as the item's own image does
    )
    try:
        with serving(folder):
            config.write_text(yaml.safe_dump(values))
            told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once"])
            assert "published before the run was run otherwise" in str(told.exception), told.output
        with serving(folder) as (address, _):
            show(address, user, item)
            told = CliRunner().invoke(cli, ["work", "--run", str(folder), "--once"])
            assert "0 of them accepted" in told.output and f"{folder}: 0" not in told.output, told.output
            assert show(address, user, item)["arm"] == "original"
            assert b'state="refused"' in get(address, "/metrics")[1]
    finally:
        config.write_bytes(before)


def test_the_log_has_the_probability_of_what_was_shown(folder, tables, tmp_path):
    manifest, groups, _ = tables
    made = manifest.iloc[0]
    user = groups.loc[made["user_id"], "representative"]
    with serving(folder, "--explore", "0.5") as (address, _):
        shown = [show(address, user, made["item_id"], page=f"p{k}", position=3) for k in range(60)]
        clicked = [each["impression"] for each in shown[::7]]
        for impression in clicked:
            assert click(address, impression) == 204
    told = CliRunner().invoke(cli, ["clicks", "--run", str(folder), "--out", str(tmp_path / "log.parquet")])
    assert told.exit_code == 0, told.output
    log = read_log(tmp_path / "log.parquet").set_index("page_id").loc[[f"p{k}" for k in range(60)]]
    assert log["arm"].tolist() == [each["arm"] for each in shown] and (log["position"] == 3).all()
    chances = {"ideal": 0.75, "original": 0.25}
    assert log["propensity"].tolist() == [chances[arm] for arm in log["arm"]]
    assert 5 <= (log["arm"] == "original").sum() <= 28, "a quarter of 60, within 4 standard errors"
    assert log["click"].to_numpy().nonzero()[0].tolist() == list(range(0, 60, 7))
    assert (log.loc[log["arm"] == "ideal", "picture"] == made["path"]).all()


def test_where_somebody_listens_already_nothing_is_published(folder, tables):
    with serving(folder, "--all"), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        before = Store(folder)
        before.db.execute("update facts set value = 'mark' where name = 'source'")
        told = CliRunner().invoke(cli, ["serve", "--run", str(folder), "--port", str(taken.getsockname()[1])])
        assert "found address already in use" in str(told.exception), told
        assert before.fact("source") == "mark"
        before.close()


def test_keys_limits_and_who_may_listen(folder, tables, tmp_path):
    manifest, _, _ = tables
    keys = tmp_path / "keys"
    keys.write_text(f"# of the shop\n{KEY}\nanother\n")
    asked = {"user": manifest["user_id"].iloc[0], "item": manifest["item_id"].iloc[0]}
    with serving(folder, "--keys", str(keys), "--rate", "3") as (address, _):
        assert get(address, "/v1/creative", **asked)[0] == 401
        assert get(address, "/v1/creative", key="wrong", **asked)[0] == 401
        statuses = [get(address, "/v1/creative", key=KEY, **asked)[0] for _ in range(12)]
        assert statuses[:3] == [200] * 3 and 429 in statuses
        assert get(address, "/v1/creative", key="another", **asked)[0] == 200, "each key has its own"
    open_to_all = CliRunner().invoke(cli, ["serve", "--run", str(folder), "--host", "0.0.0.0"])
    assert "no API keys; expected keys where others can reach the service" in str(open_to_all.exception)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_shows_the_image_and_takes_the_click(folder, tables, tmp_path):
    manifest, groups, _ = tables
    made = manifest.iloc[0]
    user = groups.loc[made["user_id"], "representative"]
    with serving(folder) as (address, _), Browser(str(CHROMIUM), tmp_path) as browser:
        browser.tell("Page.navigate", url=f"{address}/")
        _until(browser, "document.forms.length === 1 && document.readyState === 'complete'")
        fields = f"form.user.value = {json.dumps(user)}; form.item.value = {json.dumps(made['item_id'])}"
        browser.run(f"{fields}; form.requestSubmit()")
        _until(browser, "document.getElementById('image').naturalWidth > 0")
        assert "ideal" in browser.run("document.getElementById('facts').innerText")
        assert made["item_id"] in browser.run("document.getElementById('image').alt")
        browser.run("document.getElementById('image').click()")
        _until(browser, "document.getElementById('error').textContent === 'Click noted.'")
        assert "recgen_clicks_total 1.0" in get(address, "/metrics")[1].decode()
        browser.run("form.item.value = 'no such'; form.requestSubmit()")
        _until(browser, "document.getElementById('error').textContent.includes('not in the catalogue')")


def _until(browser: Browser, condition: str) -> None:
    for _ in range(400):
        if browser.run(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {condition}")


def test_killed_under_load_it_answers_right_again_and_has_lost_no_impression(folder, tables):
    manifest, groups, _ = tables
    rows = manifest.drop_duplicates(["user_id", "item_id"])
    right = {(row.user_id, row.item_id): recipe_hash(row.recipe) for row in rows.itertuples()}
    answered: list[tuple[tuple[str, str], dict]] = []

    def ask(address: str, stop: threading.Event) -> None:
        while not stop.is_set():
            for pair in right:
                with contextlib.suppress(OSError):
                    answered.append((pair, show(address, *pair)))
                if stop.is_set():
                    return

    for _ in range(2):
        with serving(folder) as (address, process):
            stop = threading.Event()
            threads = [threading.Thread(target=ask, args=(address, stop)) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(1.0)
            os.kill(process.pid, signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join()
    assert len(answered) > 50
    worker = Store(folder)
    drawn = dict(
        worker.db.execute(
            "select user_id || char(31) || item_id, recipe from creatives where later"
        ).fetchall()
    )
    for pair, answer in answered:
        assert answer["recipe"] == drawn.get("\x1f".join(pair), right[pair])
    logged = {row[0] for row in worker.db.execute("select impression from impressions")}
    worker.close()
    assert {answer["impression"] for _, answer in answered} <= logged
