"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that listens on a socket in a folder of its own; skipped without Debian's package."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="pg"))
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        account = next(
            entry for name in ("postgres", "nobody") for entry in pwd.getpwall() if entry.pw_name == name
        )
        os.chown(folder, account.pw_uid, account.pw_gid)
        owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        with (folder / "calls.log").open("a") as log:
            subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log, timeout=60, **owner)

    call("initdb", "-A", "trust", "-U", "recgen", "--no-sync", "--no-locale", "-E", "UTF8")
    call("pg_ctl", "-w", "start", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    yield f"postgresql+psycopg://recgen@/postgres?host={folder}"
    call("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder)
