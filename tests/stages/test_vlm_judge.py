"""The vision-language judge against a real HTTP service: one that looks, one that names a place, one that cannot be read."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recgen import api
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline, preflight
from recgen.pipeline.context import RunContext
from recgen.stages.creative_batch import load
from recgen.stages.evaluate import _unavailable
from recgen.stages.vlm_judge import by_vlm

REQUESTS = {"protocol": "blind", "items": 5, "per_item": 3, "held_out": 0.5}
CLEAR = 0.6  # levels of red that JPEG does not hide


def red(image: Image.Image) -> float:
    return float(np.asarray(image.convert("RGB"), dtype=float)[..., 0].mean())


def redder(liked: list[Image.Image], first: Image.Image, second: Image.Image) -> str:
    return "1" if red(first) > red(second) else "2"


class Service:
    """An OpenAI-compatible service that answers by a rule over the images of a question, and keeps what it was shown."""

    made = 0

    def __init__(self, rule: Callable[[list[Image.Image], Image.Image, Image.Image], str]) -> None:
        Service.made += 1
        self.model = (
            f"model {Service.made}"  # an address may be another service's of before, whose answers are kept
        )
        self.shown: list[list[Image.Image]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                images = [
                    Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
                    for part in body["messages"][0]["content"]
                    if part["type"] == "image_url"
                ]
                service.shown.append(images)
                said = rule(images[:-2], images[-2], images[-1])
                answer = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Return a function that starts a service with a rule."""
    started: list[Service] = []

    def start(rule: Any) -> Service:
        started.append(Service(rule))
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> Path:
    """A run without such a judge, with likes held out and other users' creatives."""
    folder = tmp_path_factory.mktemp("vlm")
    write_config(folder, requests=REQUESTS, controls=["swapped"], generators=["toy", "other"])
    api.run(str(folder / "tiny.yaml"), str(folder / "run"), (), until="evaluate")
    return folder


def asking(folder: Path, service: Service, **settings: Any) -> RunContext:
    """The run with the judge."""
    block = {"endpoint": {"url": service.url, "model": service.model, "retries": 0}, **settings}
    changes = [f"recgen.metrics.vlm={json.dumps(block)}"]
    return RunContext(load_config(str(folder / "tiny.yaml"), changes), folder / "run")


def reds(paths: list[Path]) -> np.ndarray:
    return np.array([red(Image.open(path)) for path in paths])


def test_a_service_that_looks_gives_the_share_of_what_it_sees(finished, serve):
    service = serve(redder)
    run = asking(finished, service)
    made = load(run, "toy")
    columns, sets, record = by_vlm(run, made)
    gap = reds(made.paths) - reds([run.data.images[row] for row in made.rows])
    clear = np.abs(gap) > CLEAR
    assert clear.sum() > 8 and 0 < (gap[clear] > 0).mean() < 1
    np.testing.assert_array_equal(columns["vlm_preference"][clear], gap[clear] > 0)
    assert sets["vlm_first_place"]["value"] == 0.5 and sets["vlm_first_place"]["n"] == 30
    assert record == {"against": "original", "answers": 30, "unread": 0}
    assert len(service.shown) == 30
    by_vlm(run, made)
    assert len(service.shown) == 30  # answers that are there are not asked for again


def test_it_is_shown_the_latest_held_out_likes(finished, serve):
    service = serve(redder)
    run = asking(finished, service, liked=2, requests=4)
    columns, _, record = by_vlm(run, load(run, "toy"))
    assert record["answers"] == 8 and np.isfinite(columns["vlm_preference"]).sum() == 4
    table = pd.read_parquet(run.folder / "dataset/requests.parquet")
    expected = {tuple(items[-2:]) for items in table["held_out"]}
    assert any(len(items) > 2 for items in table["held_out"])
    catalogue = {item: run.data.images[row] for item, row in run.data.item_rows.items()}
    for images in service.shown:
        assert tuple(item_of(image, catalogue) for image in images[:-2]) in expected


def item_of(image: Image.Image, catalogue: dict[str, Path]) -> str:
    """The item whose image this is, but for JPEG."""
    pixels = np.asarray(image.convert("RGB"), dtype=float)
    away = {
        item: float(np.abs(np.asarray(Image.open(path).convert("RGB"), dtype=float) - pixels).mean())
        for item, path in catalogue.items()
    }
    return min(away, key=away.__getitem__)


def test_every_generator_is_asked_about_the_same_requests(finished, serve):
    run = asking(finished, serve(redder), requests=4)
    rows = [np.isfinite(by_vlm(run, load(run, name))[0]["vlm_preference"]) for name in ("toy", "other")]
    assert rows[0].sum() == 4
    np.testing.assert_array_equal(*rows)
    assert by_vlm(run, load(run, "swapped.toy")) == ({}, {}, {})  # controls are not asked about


def test_a_service_that_always_says_the_first_makes_ties_and_is_found_out(finished, serve):
    run = asking(finished, serve(lambda *_: "The first one."))
    columns, sets, record = by_vlm(run, load(run, "toy"))
    assert (columns["vlm_preference"] == 0.5).all() and record["unread"] == 0
    assert sets["vlm_first_place"]["value"] == 1


def test_against_another_users_creative(finished, serve):
    service = serve(redder)
    run = asking(finished, service, against="swapped")
    own, other = load(run, "toy"), load(run, "swapped.toy")
    columns, _, record = by_vlm(run, own)
    there = dict(zip(zip(other.users, other.items, strict=True), reds(other.paths), strict=True))
    pairs = list(zip(own.users, own.items, strict=True))
    gap = reds(own.paths) - np.array([there.get(pair, np.nan) for pair in pairs])
    clear = np.abs(gap) > CLEAR
    assert clear.sum() > 4 and 0 < (gap[clear] > 0).mean() < 1
    np.testing.assert_array_equal(columns["vlm_preference"][clear], gap[clear] > 0)
    assert record["against"] == "swapped" and record["answers"] == 2 * np.isfinite(gap).sum()


def test_answers_that_cannot_be_read_are_left_out_and_counted(finished, serve):
    unread = []

    def rule(liked, first, second):
        if red(first) > 127:
            return redder(liked, first, second)
        unread.append(1)
        return "I would rather not say."

    run = asking(finished, serve(rule))
    columns, sets, record = by_vlm(run, load(run, "toy"))
    assert 0 < record["unread"] == len(unread) < 30
    missing = np.isnan(columns["vlm_preference"]).sum()
    assert record["unread"] / 2 <= missing <= record["unread"]
    assert sets["vlm_first_place"]["n"] == 30 - len(unread)


def test_a_whole_run_reports_it_and_a_run_without_says_what_it_needs(finished, serve):
    service = serve(lambda *_: "1")
    run = asking(finished, service)
    needs = json.loads((finished / "run/metrics.json").read_text())["unavailable"]
    assert "endpoint" in needs["vlm_preference"] and "recgen.metrics.vlm" in needs["vlm_preference"]
    assert "vlm_preference" not in _unavailable(run, {})
    pipeline.execute(run, until="evaluate")
    metrics = json.loads((finished / "run/metrics.json").read_text())
    assert metrics["creatives"]["toy"]["vlm_preference"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 15}
    assert metrics["creatives"]["toy"]["vlm_first_place"]["value"] == 1
    assert metrics["vlm"]["other"] == {"against": "original", "answers": 30, "unread": 0}
    tested = {test["metric"] for test in metrics["tests"]["paired"]}
    assert "vlm_preference" in tested and "vlm_first_place" not in tested


def test_other_users_creatives_must_be_there(write_config, tmp_path):
    block = {"endpoint": {"url": "http://127.0.0.1:1/v1", "model": "m"}, "against": "swapped"}
    with pytest.raises(UserError, match=r"recgen.*against: swapped with `swapped` among the controls"):
        load_config(str(write_config(tmp_path, metrics={"vlm": block})))


@pytest.mark.parametrize("variable", [None, "A_KEY_THAT_NOBODY_SET"])
def test_a_missing_key_is_said_before_anything_starts(variable, write_config, tmp_path):
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": variable}
    config = write_config(tmp_path, metrics={"vlm": {"endpoint": endpoint}})
    run = RunContext(load_config(str(config)), tmp_path / "run")
    stages = ["dataset", "evaluate"]
    if variable is None:
        preflight.check(run, stages)
    else:
        with pytest.raises(
            UserError, match=r"recgen\.metrics\.vlm\.endpoint\.api_key_env.*A_KEY_THAT_NOBODY_SET"
        ):
            preflight.check(run, stages)
        preflight.check(run, ["dataset"])  # nothing that is left asks it
