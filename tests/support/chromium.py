"""A browser that does what a test says: Chromium by the DevTools protocol over a pipe."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

_START = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
# Chromium reads commands from descriptor 3 and answers on 4.

_PATIENCE = 60.0  # seconds without a word from the browser


class Browser:
    """A headless Chromium; use it in a `with`. Downloads go into `folder`."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder, self._asked = folder, 0
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
        ]  # fmt: skip
        start = [sys.executable, "-c", _START, str(theirs), str(back), program, *flags, "about:blank"]
        self._process = subprocess.Popen(start, pass_fds=(theirs, back), stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(back)
        self._read = os.fdopen(self._in, "rb")
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        behaviour = {"behavior": "allow", "downloadPath": str(self.folder), "eventsEnabled": True}
        self.ask("Browser.setDownloadBehavior", **behaviour)
        self.tell("Page.enable")
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._out)
        self._process.kill()
        self._process.wait()
        self._read.close()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        os.write(
            self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        answer = self._await(lambda received: received.get("id") == self._asked)
        assert "error" not in answer, answer
        return answer["result"]

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self.ask(method, self.session, **parameters)

    def open(self, page: Path) -> None:
        """Open a file and wait until it is loaded."""
        self._events.clear()
        self.tell("Page.navigate", url=page.resolve().as_uri())
        self._await(lambda received: received.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return what a script in the page evaluates to."""
        result = self.tell("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def downloaded(self, script: str) -> Path:
        """Run a script that downloads a file, and return it when it is whole."""
        self._events.clear()
        self.run(script)
        name = self._await(lambda received: received.get("method") == "Browser.downloadWillBegin")["params"][
            "suggestedFilename"
        ]
        self._await(lambda received: received.get("params", {}).get("state") == "completed")
        return self.folder / name

    def _await(self, wanted: Any) -> dict[str, Any]:
        """Return the first message that is wanted; others are kept, for an event may come before the answer to its cause."""
        for place, event in enumerate(self._events):
            if wanted(event):
                return self._events.pop(place)
        while not wanted(received := self._receive()):
            self._events.append(received)
        return received

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], _PATIENCE)[0], "the browser says nothing"
            piece = os.read(self._in, 65536)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        received: dict[str, Any] = json.loads(message)
        return received
