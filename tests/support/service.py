"""A service in a process of its own, and a client's questions to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yield the address of a running service and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from recgen.cli import main; main()", "serve", "--run", str(folder)]
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # the plugin of the tests among it
    process = subprocess.Popen([*command, "--port", str(port), *options], stdout=subprocess.PIPE, env=known)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                break
            assert process.poll() is None, "the service has ended"
            time.sleep(0.05)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def get(address: str, path: str, key: str | None = None, **asked: object) -> tuple[int, bytes]:
    request = urllib.request.Request(f"{address}{path}{'?' + urlencode(asked) if asked else ''}")
    if key is not None:
        request.add_header("X-API-Key", key)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def show(address: str, user: str, item: str, **more: object) -> dict:
    status, body = get(address, "/v1/creative", user=user, item=item, **more)
    assert status == 200, body
    return json.loads(body)


def click(address: str, impression: str) -> int:
    body = json.dumps({"impression": impression}).encode()
    request = urllib.request.Request(f"{address}/v1/click", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def headers(address: str, path: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{address}{path}", timeout=20) as answer:
        return dict(answer.headers)
