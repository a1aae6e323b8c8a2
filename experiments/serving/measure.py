"""How fast does the service answer, and is every answer right, also when it is killed?

A store of made-up creatives (one million by default), a service in a process of its own, and an open-loop load: requests are sent
at their times whether earlier ones have been answered or not, so that a slow answer does not slow the load (a closed loop would
hide the wait). A tenth of the requests ask for pairs without a creative, whose users then share one or see the item's own image.
Every answer is compared with the only right one. In the middle of the second run the service is killed (SIGKILL) and started
again; what was answered before must be in its log.

The load is made by this process, on the same cores as the service.

    python -m experiments.serving.measure --rate 1000 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recgen.core.io import write_json
from recgen.serving.store import PATH, Store

HERE = Path(__file__).parent
ITEMS_A_USER, CONNECTIONS = 10, 64
MISSES = 0.1
"""Share of requests for pairs without a creative of their own."""


def creative(number: int) -> tuple[str, str, str, str]:
    """Return the creative of a number: user, item, path and recipe."""
    recipe = hashlib.sha256(str(number).encode()).hexdigest()
    return f"u{number // ITEMS_A_USER}", f"i{number % ITEMS_A_USER}", f"creatives/{number}.png", recipe


def build(folder: Path, count: int) -> float:
    """Make the store, unless it is there; return the seconds it took."""
    started = time.perf_counter()
    if not (folder / PATH).exists():
        store = Store(folder)
        users = count // ITEMS_A_USER
        groups: Iterator[tuple[str, str]] = ((f"u{user}", f"u{user - user % 100}") for user in range(users))
        items = [(f"i{item}", None) for item in range(2 * ITEMS_A_USER)]
        store.publish({"generator": "made-up"}, groups, items, (creative(number) for number in range(count)))
        store.close()
    return time.perf_counter() - started


def asked(count: int, rng: np.random.Generator) -> tuple[str, str, str | None]:
    """Return a user, an item and the recipe of the only right answer; None for the item's own image."""
    number = int(rng.integers(count))
    user, item, _, recipe = creative(number)
    if rng.random() < MISSES:
        return user, f"i{ITEMS_A_USER + number % ITEMS_A_USER}", None
    return user, item, recipe


@dataclass
class Seen:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    right: int = 0
    wrong: int = 0
    failed: int = 0
    impressions: list[str] = field(default_factory=list)


class Client:
    """A connection that sends one request at a time."""

    def __init__(self, port: int) -> None:
        self.port, self.reader, self.writer = port, None, None  # type: ignore[var-annotated]

    async def get(self, path: str) -> dict[str, Any]:
        """Return an answer's JSON."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            body = await self.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.writer.close()
            self.writer = None
            raise
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(head.split(b"\r\n")[0].decode())
        return json.loads(body)


async def load(port: int, count: int, rate: float, seconds: float, seed: int) -> Seen:
    """Send requests at their times for so long, and return what came back."""
    rng, seen = np.random.default_rng(seed), Seen()
    clients: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        clients.put_nowait(Client(port))
    times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))

    async def one(due: float, user: str, item: str, recipe: str | None) -> None:
        client = await clients.get()
        try:
            answer = await client.get(f"/v1/creative?user={user}&item={item}")
        except (OSError, asyncio.IncompleteReadError):
            seen.failed += 1
        else:
            seen.seconds.append(time.perf_counter() - due)
            seen.impressions.append(answer["impression"])
            good = answer["recipe"] == recipe and answer["user"] == user and answer["item"] == item
            seen.right, seen.wrong = seen.right + good, seen.wrong + (not good)
        finally:
            clients.put_nowait(client)

    start, tasks = time.perf_counter(), []
    for at in times:
        wait = start + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(start + at, *asked(count, rng))))
    await asyncio.gather(*tasks)
    return seen


def started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the service and return when it answers."""
    told = {"folder": str(folder), "keys": None, "rate": 0.0, "explore": 0.0}
    settings = f"factory=True, port={port}, log_level='error', access_log=False"
    command = f"import uvicorn; uvicorn.run('recgen.serving.main:create', {settings})"
    process = subprocess.Popen(
        [sys.executable, "-c", command], env={**os.environ, "RECGEN_SERVE": json.dumps(told)}
    )
    for _ in range(1200):
        try:
            asyncio.run(Client(port).get("/health"))
            return process
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the service does not answer")


def figures(seen: Seen, seconds: float) -> dict[str, Any]:
    """Return what the load found."""
    ms = 1000 * np.array(seen.seconds)
    return {
        "answered a second": len(ms) / seconds,
        "ms": {f"p{share}": float(np.percentile(ms, share)) for share in (50, 90, 99, 99.9)},
        "right": seen.right, "wrong": seen.wrong, "failed": seen.failed,
    }  # fmt: skip


async def killed(
    folder: Path, port: int, given: argparse.Namespace, process: subprocess.Popen[bytes]
) -> Seen:
    """Load the service, kill it in the middle and start it again."""
    loading = asyncio.create_task(load(port, given.creatives, given.rate, given.seconds, seed=2))
    await asyncio.sleep(given.seconds / 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = await asyncio.to_thread(started, folder, port)
    seen = await loading
    again.terminate()
    again.wait()
    return seen


def main() -> None:
    """Measure what the command line asks for and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/serving"))
    parser.add_argument("--creatives", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=8137)
    given = parser.parse_args()
    folder = given.work / str(given.creatives)
    built = build(folder, given.creatives)
    size = (folder / PATH).stat().st_size
    process = started(folder, given.port)
    cpu = _cpu_seconds(process.pid)
    steady = asyncio.run(load(given.port, given.creatives, given.rate, given.seconds, seed=1))
    cpu = _cpu_seconds(process.pid) - cpu
    seen = asyncio.run(killed(folder, given.port, given, process))
    store = Store(folder)
    logged = {row[0] for row in store.db.execute("select impression from impressions")}
    store.close()
    lost = len({*steady.impressions, *seen.impressions} - logged)
    write_json(HERE / "result.json", {
        "creatives": given.creatives, "store MB": round(size / 1e6), "built in s": round(built, 1),
        "asked a second": given.rate, "seconds": given.seconds, "cores": os.cpu_count(),
        "load average of the machine": round(os.getloadavg()[0], 1),
        "CPU ms of the service a request": round(1000 * cpu / max(steady.right + steady.wrong, 1), 3),
        "steady": figures(steady, given.seconds),
        "killed": {**figures(seen, given.seconds), "answered and not in the log": lost},
    })  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
