"""Starts the service: `recgen serve`."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from recgen.core.errors import UserError
from recgen.serving.limits import Keys
from recgen.serving.publish import publish

if TYPE_CHECKING:
    from fastapi import FastAPI

_TOLD = "RECGEN_SERVE"  # how the processes of uvicorn learn what they serve


def serve(
    folder: str,
    generator: str | None,
    host: str,
    port: int,
    keys: str | None,
    rate: float,
    explore: float,
    workers: int,
    everything: bool = False,
    database: str | None = None,
) -> None:
    """Publish a run's creatives and serve them until interrupted.

    Parameters
    ----------
    folder, generator, everything
        See `recgen.serving.publish.publish`.
    host, port
        Where to listen.
    keys
        A file of API keys; None needs none, and listens on this machine only.
    rate
        Requests a second of each caller, in each process; 0 for no limit.
    explore
        See `recgen.serving.app.Options`.
    workers
        Processes.
    database
        Where what is served, shown and asked for is kept, see `recgen.serving.store.Store`.

    Raises
    ------
    UserError
        If a package is missing, the run is not finished, the address is taken, or the service would be open to everybody.
    """
    absent = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if absent:
        raise UserError(
            "recgen serve",
            found=f"no {absent[0]}",
            expected="it installed",
            todo="pip install 'recgen[serve]'",
        )
    if not Keys.read(keys).asked and not _is_local(host):
        raise UserError(
            f"--host {host}", found="no API keys", expected="keys where others can reach the service",
            todo="Name a file of them with --keys, or listen on 127.0.0.1.",
        )  # fmt: skip
    _check_free(host, port)  # before anything is published in the place of what another service shows
    import uvicorn

    print(publish(Path(folder), generator, everything, database), flush=True)
    address = f"[{host}]" if ":" in host else host
    print(f"http://{address}:{port}/ to try it, /docs for the API, /metrics for Prometheus", flush=True)
    told = {"folder": folder, "keys": keys, "rate": rate, "explore": explore, "database": database}
    os.environ[_TOLD] = json.dumps(told)
    uvicorn.run(
        f"{__name__}:create", factory=True, host=host, port=port, workers=workers, log_level="warning", access_log=False
    )  # fmt: skip


def create() -> FastAPI:
    """Return the application that `serve` has asked for, in a process of uvicorn's."""
    from recgen.serving.app import Options, application

    told = json.loads(os.environ[_TOLD])
    keys = Keys.read(told["keys"])
    return application(
        Options(Path(told["folder"]), keys, told["rate"], told["explore"], told.get("database"))
    )


def _check_free(host: str, port: int) -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as there:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            there.bind(address)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}",
            found=(error.strerror or str(error)).lower(),
            expected="an address of this machine at which nobody listens",
        ) from error


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def clicks(folder: str, out: str, database: str | None = None) -> str:
    """Write what was shown and clicked as a click log (`recgen.data.click_log`), and return a line that says how much."""
    from recgen.data.click_log import write_log
    from recgen.serving.store import served

    store = served(Path(folder), database)
    log = store.log_table()
    store.close()
    write_log(Path(out), log)
    return f"{out}: {len(log):,} impressions, {int(log['click'].sum()):,} clicks"
