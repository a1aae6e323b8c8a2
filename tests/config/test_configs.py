"""The papers' configurations: what they say when nothing is here, and that they run on the shipped models from the raw files."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import raw_pog
from command_line import SHIPPED, command

from recgen import api as session
from recgen import cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.metrics.registry import lookup
from recgen.pipeline.context import RunContext
from recgen.pipeline.missing_weights import Hub
from recgen.pipeline.pipeline import STAGES, preflight

PAPERS = ("pog", "ml-latest", "ser30k", "mind", "flickr-aes")


def missing(config: str, *overrides: str, stages=STAGES) -> str:
    """Return what is said to be missing; "" if nothing is."""
    try:
        preflight.check(RunContext(load_config(config, overrides), Path("run")), stages)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("config", PAPERS)
def test_all_that_is_missing_is_said_at_once(config, nowhere):
    message = missing(config)
    settings = load_config(config).settings
    assert f"data/{config}/{config}.inter: no such file" in message
    assert f"recgen data prepare {'movielens' if config == 'ml-latest' else config} --raw raw/" in message
    assert f"--out data/{config}" in message
    weights = [
        "laion/CLIP-ViT-H-14",
        "stable-diffusion-v1-5/",
        "h94/IP-Adapter models/ip-adapter_sd15.safetensors",
    ]
    if set(settings.generators) & {"ragar", "pmg"}:
        weights += [settings.captioner]
    if set(settings.generators) & {"ragar", "pmg", "iamg"}:
        weights += [settings.llm]
    if "iamg" in settings.generators:
        weights += [settings.tags.image]
        assert re.search(r"recgen\.foreground: no .*isnet-general-use\.onnx", message)
    for name in weights:
        assert f"hf download {name}" in message
    assert message.count("hf download") == len(weights)
    assert f"--config {config}.yaml --set recgen.encoder=demo-clip recgen.backbone=demo-sd" in message


@pytest.mark.parametrize("config", PAPERS)
def test_the_commands_that_are_named_exist(config, nowhere):
    """Each `recgen ...` in the message is a command, with options that it has."""
    group = {"recgen": cli.recgen}
    for line in re.findall(r"recgen ((?:data|run) .*)", missing(config)):
        words, found = line.split(), group["recgen"]
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        found.make_context("recgen", words, resilient_parsing=False)


def test_doctor_knows_the_papers_data_and_what_tuning_asks_for(nowhere, monkeypatch):
    from recgen import doctor

    monkeypatch.setattr(doctor, "EXTRAS", {"no-such-package": ("tune", "recgen tune")})
    (nowhere / "data/mind").mkdir(parents=True)
    (nowhere / "data/mind/mind.inter").touch()
    lines = {line.split()[1]: line for line in doctor.examine().split("\n") if line.startswith("  ")}
    assert "recgen data prepare pog" in lines["pog"] and lines["pog"].startswith("  --")
    assert lines["mind"].startswith("  ok") and lines["flickr-aes"].startswith("  --")
    assert "'.[tune]'" in lines["no-such-package"]


def test_the_shipped_models_leave_only_the_data_to_get(nowhere, monkeypatch, capsys):
    status = command(monkeypatch, "run", "--config", "pog", "--out", "run", "--set", *SHIPPED)
    told = capsys.readouterr().err
    assert status == 2 and "recgen: data/pog/pog.inter: found no such file" in told
    assert "hf download" not in told and "Traceback" not in told


def test_weights_are_not_asked_for_before_they_are_needed(nowhere):
    assert "hf download" not in missing("pog", stages=["dataset"])
    assert "ViT-H-14" in missing("pog", stages=["features"]) and "stable-diffusion" not in missing(
        "pog", stages=["features"]
    )


def test_weights_in_the_hubs_cache_are_here(nowhere):
    held = nowhere / "cache/models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    (held / "snapshots/abc").mkdir(parents=True)
    (held / "snapshots/abc/model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (held / "refs").mkdir()
    (held / "refs/main").write_text("abc")
    message = missing("pog", stages=["generate"])
    assert "stable-diffusion-v1-5/" not in message and "hf download h94/IP-Adapter" in message


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("recgen.encoder={model: ViT-H-14, pretrained: laion2b_s32b}", "one of laion2b_s32b_b79k"),
        ("recgen.backbone=weights/absent/sd", "a folder that is here, or a hub id"),
        (
            "recgen.ip_adapter=h94/IP-Adapter/models/x.safetensors",
            "hf download h94/IP-Adapter models/x.safetensors",
        ),
    ],
)
def test_a_wrong_name_of_weights_is_told(nowhere, override, says):
    assert says in missing("demo", override)


class CompletionCache(BaseHTTPRequestHandler):
    """A model hub that has one model, keeps one behind a licence, and lacks all others."""

    def do_HEAD(self) -> None:
        status, code = {"/a/open": (200, ""), "/a/gated": (403, "GatedRepo")}.get(
            self.path.split("/resolve/")[0], (404, "RepoNotFound")
        )
        if status == 200 and not self.path.endswith("/model_index.json"):
            status, code = 404, "EntryNotFound"
        self.send_response(status)
        for name, value in (
            ("X-Error-Code", code),
            ("ETag", '"1"'),
            ("X-Repo-Commit", "c"),
            ("Content-Length", "2"),
        ):
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(nowhere, monkeypatch) -> Iterator[None]:
    """A network with a hub in it."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), CompletionCache)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", here)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", here + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a/gated", "accept its licence"),
        ("a/none", "the hub does not have it"),
        ("a/open", ""),
    ],
)
def test_the_hub_is_asked_what_it_would_give(hub, spec, says):
    found = list(Hub().missing("recgen.backbone", spec, "model_index.json"))
    assert (says in found[0].found) if says else not found


def test_a_shipped_model_brings_its_companions():
    plain, small = load_config("pog").settings, load_config("pog", SHIPPED).settings
    assert plain.llm == "meta-llama/Llama-2-7b-chat-hf" and plain.ip_adapter.startswith("h94/")
    assert (small.ip_adapter, small.captioner, small.llm) == ("demo-ip-adapter", "clip-tagger", "demo-llm")
    assert (small.tags.image, small.tags.domain, small.foreground) == (
        "clip-tagger",
        "outfit",
        "plain-ground",
    )
    mine = load_config("pog", [*SHIPPED, "recgen.llm=mine", "recgen.ip_adapter=null"])
    assert (mine.settings.llm, mine.settings.ip_adapter, mine.settings.captioner) == (
        "mine",
        None,
        "clip-tagger",
    )
    named = load_config("pog", ["recgen.llm=mine", *SHIPPED[::-1]]).settings
    assert (named.llm, named.ip_adapter) == ("mine", "demo-ip-adapter"), "in whatever order they are set"
    other = load_config("pog", ["recgen.backbone=my/sd"]).settings
    assert (other.backbone, other.ip_adapter, other.llm) == ("my/sd", plain.ip_adapter, plain.llm)


def test_one_set_takes_several_keys(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        session, "run", lambda config, out, overrides, until, force: seen.update(got=overrides, until=until)
    )
    words = "--set a=1 b=[x,y] --until dataset --set c=3 --set=d=-4 e=5 --out x"
    assert command(monkeypatch, "run", "--config", "demo", *words.split()) == 0
    assert seen == {"got": ("a=1", "b=[x,y]", "c=3", "d=-4", "e=5"), "until": "dataset"}
    assert command(monkeypatch, "run", "--config", "demo", "stray") == 2


def test_pog_runs_from_the_raw_files_to_a_report(nowhere, monkeypatch):
    raw_pog.write_raw_pog(nowhere / "raw/pog")
    assert (
        command(
            monkeypatch, "data", "prepare", "pog", "--raw", "raw/pog", "--out", "data/pog", "--users", "1000"
        )
        == 0
    )
    raw_pog.draw_images(nowhere / "data/pog")
    few = "decode: {steps: 2, guidance_scale: 1}"
    short = (
        "epochs=2", "use_gpu=False", "recgen.threads=1", "recgen.requests=4", "recgen.downstream.seeds=1",
        "recgen.downstream.items=2",
        "recgen.generators=[ragar,ip_adapter_mean]",
        f"recgen.ragar={{k: 5, r: 1, max_steps: 1, train_users: 4, held_out_users: 2, {few}}}",
        "recgen.ip_adapter_mean.decode.steps=2",
    )  # fmt: skip
    assert command(monkeypatch, "run", "--config", "pog.yaml", "--set", *SHIPPED, *short) == 0
    metrics = json.loads((nowhere / "runs/pog/metrics.json").read_text())
    assert (
        set(metrics["creatives"]) == {"ragar", "ip_adapter_mean"}
        and metrics["creatives"]["ragar"]["cis"]["n"] == 4
    )
    for found in metrics["creatives"].values():  # of four requests, whose intervals are wide
        for key, bounds in ((key, lookup(key).bounds or (-math.inf, math.inf)) for key in found):
            ends = [end for end in (found[key]["low"], found[key]["high"]) if end is not None]
            assert all(bounds[0] <= end <= bounds[1] for end in ends), key
    assert (nowhere / "runs/pog/report.html").stat().st_size > 10_000
