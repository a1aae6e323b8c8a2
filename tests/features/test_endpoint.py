"""The endpoint, against a server of this process that answers, dawdles, refuses, fails and talks nonsense."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from recgen.config.text_models import Endpoint
from recgen.core.errors import UserError
from recgen.features.completion import CompletionCache
from recgen.features.endpoint import ChatService


class Service:
    """A chat service whose answers to the n-th request a test scripts; what is not scripted is answered well."""

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.busy, self.busiest, self.lock = 0, 0, threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with service.lock:
                    service.bodies.append(body)
                    service.headers.append(dict(self.headers))
                    service.paths.append(self.path)
                    act = service.script.pop(0) if service.script else answer
                    self.busy = True
                    service.busy += 1
                    service.busiest = max(service.busiest, service.busy)
                try:
                    act(self)
                except BrokenPipeError:
                    pass
                finally:
                    service.ends(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.service = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def ends(self, handler: Any) -> None:
        """Count a request as over, before its client can have read the answer and asked the next."""
        with self.lock:
            self.busy -= handler.busy
            handler.busy = False

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


def say(handler: Any, status: int, text: str, **headers: str) -> None:
    handler.server.service.ends(handler)
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(text)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(text.encode())


def answer(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.02)
    message = {
        "choices": [{"message": {"content": "Red, dots"}}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 4},
    }
    say(handler, 200, json.dumps(message))


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: say(handler, code, "no", **headers)


def nonsense(text: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: say(handler, 200, text)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


def ask(
    service: Service, prompts: list[str], **settings: Any
) -> tuple[dict[str, str], list[float], ChatService]:
    """Ask and return the answers, the waits and the client."""
    kept: dict[str, str] = {}
    waits: list[float] = []
    chosen = {"url": service.url, "model": "m", "retries": 3, "timeout": 5, **settings}
    client = ChatService(Endpoint.model_validate(chosen), wait=waits.append)
    client.ask(prompts, 24, kept.__setitem__)
    return kept, waits, client


def test_it_asks_as_the_protocol_says(service, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    kept, _, _ = ask(service, ["one"], api_key_env="A_KEY")
    assert kept == {"one": "Red, dots"} and service.paths == ["/v1/chat/completions"]
    assert service.headers[0]["Authorization"] == "Bearer secret"
    assert (
        service.bodies[0]["model"] == "m"
        and service.bodies[0]["max_tokens"] == 24
        and service.prompts == ["one"]
    )


def test_a_few_at_a_time(service):
    kept, _, _ = ask(service, [str(n) for n in range(24)], workers=3)
    assert len(kept) == 24 and 1 < service.busiest <= 3


def test_a_busy_service_is_given_the_time_it_asks_for(service):
    service.script = [
        status(429, Retry_After="7"),
        status(503, Retry_After=formatdate(time.time() + 30, usegmt=True)),
    ]
    kept, waits, _ = ask(service, ["one"])
    assert kept == {"one": "Red, dots"} and waits[0] == 7 and 20 < waits[1] <= 30


def test_failures_are_tried_again_with_growing_pauses(service):
    late = threading.Event()
    service.script = [
        status(500),
        lambda handler: late.wait(2) and None,
        nonsense("{"),
        nonsense('{"choices": []}'),
    ]
    kept, waits, _ = ask(service, ["one"], retries=4, timeout=0.2)
    late.set()
    assert kept == {"one": "Red, dots"} and waits == [1, 2, 4, 8]


def test_a_service_that_keeps_failing_stops_the_run_and_keeps_what_came(service):
    service.script = [answer, *[status(500)] * 4]
    kept: dict[str, str] = {}
    settings = Endpoint(url=service.url, model="m", retries=3, workers=1)
    with pytest.raises(UserError, match=r"status 500, 4 times.*Run again"):
        ChatService(settings, wait=lambda _: None).ask(["one", "two", "three"], 24, kept.__setitem__)
    assert kept == {"one": "Red, dots"} and "three" not in service.prompts


@pytest.mark.parametrize("code", [301, 400, 401, 404])
def test_a_refusal_is_not_tried_again(service, code):
    service.script = [status(code, Location="http://127.0.0.1:9/")]
    with pytest.raises(UserError, match=f"status {code}: no.*api_key_env"):
        ask(service, ["one"])
    assert len(service.bodies) == 1


def test_no_service_there():
    settings = Endpoint(url="http://127.0.0.1:9/v1", model="m", retries=1)
    with pytest.raises(UserError, match="no connection.*2 times"):
        ChatService(settings, wait=lambda _: None).ask(["one"], 24, lambda *_: None)


def test_a_missing_key_is_said_before_anything_is_asked(service, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(UserError, match="NO_KEY"):
        ask(service, ["one"], api_key_env="NO_KEY")
    assert not service.bodies


def test_the_log_says_what_it_cost_and_never_the_key(service, monkeypatch, caplog):
    monkeypatch.setenv("A_KEY", "secret")
    with caplog.at_level(logging.DEBUG):
        ask(
            service,
            ["one", "two"],
            api_key_env="A_KEY",
            price_per_million_tokens={"input": 1000, "output": 10_000},
        )
    assert "m: 2 answers, 80 tokens in, 8 tokens out, cost 0.1600" in caplog.text
    assert "secret" not in caplog.text


def test_answers_are_kept_by_model_and_prompt(tmp_path):
    first = CompletionCache(tmp_path / "deep/answers.sqlite", "m")
    first.put(["one", "two"], ["1", "2"])
    first.put(["two"], ["zwei"])
    assert CompletionCache(tmp_path / "deep/answers.sqlite", "m").get("two") == "zwei"
    assert (
        CompletionCache(tmp_path / "deep/answers.sqlite", "other").get("two") is None
        and first.get("three") is None
    )


def test_a_file_that_is_none_of_answers(tmp_path):
    (tmp_path / "answers.sqlite").write_text("something else entirely, and long enough to be looked at" * 20)
    with pytest.raises(UserError, match="none of answers"):
        CompletionCache(tmp_path / "answers.sqlite", "m")


SECRET = "sk-a/very+secret"


def test_no_secret_reaches_a_message_an_answer_or_a_copy(service, monkeypatch):
    monkeypatch.setenv("A_KEY", SECRET)
    echo = json.dumps({"choices": [{"message": {"content": f"your key is {SECRET}"}}]})
    service.script = [nonsense(echo), lambda handler: say(handler, 401, "x" * 190 + f" wrong key {SECRET}")]
    kept, _, client = ask(service, ["one"], api_key_env="A_KEY")
    assert kept == {"one": "your key is ***"}
    with pytest.raises(UserError, match="status 401") as caught:
        client.ask(["two"], 24, kept.__setitem__)
    assert SECRET[:5] not in str(caught.value)


def test_credentials_in_the_url_are_used_and_never_shown(service):
    url = service.url.replace("//", "//me:pass%40word@")
    service.script = [
        answer,
        lambda handler: say(handler, 401, handler.headers["Authorization"] + " pass@word"),
    ]
    kept, _, client = ask(service, ["one"], url=url)
    given = base64.b64encode(b"me:pass@word").decode()
    assert kept and service.headers[0]["Authorization"] == f"Basic {given}"
    with pytest.raises(UserError) as caught:
        client.ask(["two"], 24, kept.__setitem__)
    assert not any(part in str(caught.value) for part in ("pass@word", "pass%40word", given, "me:"))
    settings = Endpoint(url=url, model="m")
    assert settings.model_dump()["url"] == settings.public_url == service.url


def test_a_key_that_is_no_text_is_named_without_it(service, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-secret\nline")
    with pytest.raises(UserError, match="no plain text in the environment variable A_KEY") as caught:
        ask(service, ["one"], api_key_env="A_KEY")
    assert "secret" not in str(caught.value)


def _completion(content: str, usage: str = "{}") -> str:
    return f'{{"choices": [{{"message": {{"content": {content}}}}}], "usage": {usage}}}'


@pytest.mark.parametrize(
    "bad",
    [
        nonsense(_completion('"half \\ud83d of a pair"')),
        nonsense(_completion('"a"', '{"prompt_tokens": Infinity}')),
        nonsense(_completion('"a"', '{"prompt_tokens": 1e300}')),
        nonsense(_completion("[" * 100_000)),
        nonsense(_completion('"' + "x" * (5 * 2**20) + '"')),
        status(429, Retry_After="9" * 5_000),
        status(503, Retry_After="Mon, 01 Jan 99999999999 00:00:00 GMT"),
        lambda handler: say(handler, 200, "x", Content_Encoding="gzip"),
    ],
)  # fmt: skip
def test_nonsense_of_every_kind_is_a_failed_attempt(service, bad):
    service.script = [bad]
    kept, waits, _ = ask(service, ["one"])
    assert kept == {"one": "Red, dots"} and len(waits) == 1 and waits[0] <= 60


def _drip(pieces: list[bytes]) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send a piece every 50 ms: no timeout between two of them ever ends this."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                handler.wfile.write(piece)
                time.sleep(0.05)

    return act


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.0 200 OK\r\nX: ", *[b"a"] * 200],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 200\r\n\r\n", *[b" "] * 200],
    ],
)
def test_an_attempt_has_a_deadline(service, pieces):
    service.script = [_drip(pieces)]
    started = time.monotonic()
    kept, waits, _ = ask(service, ["one"], timeout=0.2)
    assert kept == {"one": "Red, dots"} and waits == [1] and time.monotonic() - started < 8
