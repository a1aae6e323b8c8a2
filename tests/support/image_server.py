"""A server of images on this machine that does everything wrong that servers do."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

GIGABYTE = 2**30


def png(number: int) -> bytes:
    """A small image, another one for every number."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 77)).save(buffer, format="PNG")
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers by path; `asked` counts requests by path, `most_at_once` the largest number of requests under way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.sent = self.now = self.most_at_once = 0
        self.lock = threading.Lock()
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            server.times.setdefault(self.path, []).append(time.monotonic())
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
        try:
            time.sleep(server.delay)
            kind, _, number = self.path.strip("/").partition("/")
            getattr(self, f"answer_{kind}")(int(number or 0), server.asked[self.path])
        finally:
            with server.lock:
                server.now -= 1

    def reply(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "image/png",
        length: int | None = None,
        **headers: str,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_good(self, number: int, turn: int) -> None:
        self.reply(200, png(number))

    def answer_mislabelled(self, number: int, turn: int) -> None:
        self.reply(200, png(number), kind="text/html")

    def answer_lie(self, number: int, turn: int) -> None:
        self.reply(200, b"<html>no image here</html>", kind="image/jpeg")

    def answer_bomb(self, number: int, turn: int) -> None:
        """A PNG whose header says 65,536 x 65,536."""
        header = png(number)[12:16] + struct.pack(">II", 65_536, 65_536) + png(number)[24:29]
        self.reply(200, png(number)[:12] + header + struct.pack(">I", zlib.crc32(header)) + png(number)[33:])

    def answer_silent(self, number: int, turn: int) -> None:
        time.sleep(1.0)

    def answer_slow(self, number: int, turn: int) -> None:
        """A byte now and then: no timeout between two bytes ever ends this."""
        self.reply(200, length=len(png(number)))
        for byte in png(number):
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.1)

    def answer_cut(self, number: int, turn: int) -> None:
        self.reply(200, png(number)[:-20], length=len(png(number)))
        self.close_connection = True

    def answer_cutonce(self, number: int, turn: int) -> None:
        self.answer_cut(number, turn) if turn == 1 else self.answer_good(number, turn)

    def answer_unannounced(self, number: int, turn: int) -> None:
        """Cut short, and nothing says how long it should have been."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(png(number)[:45])
        self.close_connection = True

    def answer_loop(self, number: int, turn: int) -> None:
        self.reply(302, Location=f"/loop/{number}")

    def answer_moved(self, number: int, turn: int) -> None:
        self.reply(301, Location=f"/good/{number}")

    def answer_escape(self, number: int, turn: int) -> None:
        self.reply(302, Location="file:///etc/hostname")

    def answer_nonsense(self, number: int, turn: int) -> None:
        """A redirect to what is no URL, of another scheme, or to a port that is none."""
        self.reply(302, Location=("http://[bad/x", "gopher://host/x", "http://host:99999999/x")[number % 3])

    def answer_packed(self, number: int, turn: int) -> None:
        """A redirect with a compressed body that never ends."""
        body = zlib.compress(bytes(2**20))
        self.reply(302, body[:500], length=2**30, Location=f"/good/{number}", Content_Encoding="deflate")
        time.sleep(1.0)  # what waits for the rest of the body does not meet its deadline

    def answer_drip(self, number: int, turn: int) -> None:
        """Headers, a byte now and then."""
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60:
            self.wfile.write(bytes([byte]))
            time.sleep(0.1)
        self.close_connection = True

    def answer_ages(self, number: int, turn: int) -> None:
        self.reply(429, Retry_After="9" * 5_000)

    def answer_endless(self, number: int, turn: int) -> None:
        """A length of 5,000 digits, or two that differ."""
        self.send_response(200)
        for length in ["9" * 5_000] if number % 2 else ["5", "6"]:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.close_connection = True

    def answer_gone(self, number: int, turn: int) -> None:
        self.reply(404, b"gone", kind="text/plain")

    def answer_busy(self, number: int, turn: int) -> None:
        self.reply(429, Retry_After="1") if turn == 1 else self.answer_good(number, turn)

    def answer_tomorrow(self, number: int, turn: int) -> None:
        self.reply(429, Retry_After="86400")

    def answer_broken(self, number: int, turn: int) -> None:
        self.reply(500)

    def answer_brokenonce(self, number: int, turn: int) -> None:
        self.reply(500) if turn == 1 else self.answer_good(number, turn)

    def answer_huge(self, number: int, turn: int) -> None:
        """A gigabyte that is announced (0) or not (1), and begins like an image."""
        self.send_response(200)
        if number == 0:
            self.send_header("Content-Length", str(GIGABYTE))
        self.send_header("Connection", "close")
        self.end_headers()
        block = png(0)[:8].ljust(2**16, b"\0")
        while self.server.sent < GIGABYTE:
            self.wfile.write(block)
            self.server.sent += len(block)


@contextmanager
def serving() -> Iterator[Server]:
    """Run the server on threads of this process."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
