"""What a run of recgen has to survive: kills, full disks, damaged files and hostile input, each attack with what came of it.

Three things must never happen. *Lost*: a finished task is done again, or the end differs from that of an undisturbed run.
*Traceback*: anything else than success or one message that says what to do. *Silent*: damage that is neither made good nor named.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from dying import die_at_write

from recgen import api
from recgen.core.errors import UserError
from recgen.pipeline import pool, session

OPERATIONS = ("flip", "truncate", "delete", "swap", "empty", "garbage")
_BOOKS = (
    "log.txt",
    ".lock",
    ".turns",
    "config.yaml",
    "threads.txt",
)  # change with every start, or hold no result
_FORK = multiprocessing.get_context("fork")
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000  # flags of unshare(2)


@dataclass
class Tally:
    """What was tried, by kind, and what must never happen, each with its circumstances."""

    tried: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def __iadd__(self, other: Tally) -> Tally:
        self.tried += other.tried
        self.lost += other.lost
        self.tracebacks += other.tracebacks
        self.silent += other.silent
        return self

    @property
    def bad(self) -> list[str]:
        """Everything that must never happen."""
        return [*self.tracebacks, *self.silent, *self.lost]


def results(folder: Path) -> dict[str, Any]:
    """Return the contents of a run's files that must be the same however it came about, by name.

    Books are left out, and what RecBole reads: both are written anew whenever they are needed. Seconds that work took are too.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if (
            path.is_file()
            and name not in _BOOKS
            and name.split("/")[0] not in ("recbole", "stages", "report.html")
        ):
            found[name] = _contents(path)
    return found


def _contents(path: Path) -> Any:
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table[[each for each in table if each != "seconds"]].to_csv()
        if path.name == "training.json":
            return _without_seconds(json.loads(path.read_text()))
    except Exception as error:
        return f"cannot be read: {type(error).__name__}"
    return path.read_bytes()


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(inner) for key, inner in value.items() if key != "seconds"}
    return [_without_seconds(inner) for inner in value] if isinstance(value, list) else value


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of files that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _child(errors: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Start a function in a forked process, which ends with the exit code that the command line would have."""

    def body() -> None:
        os.setpgid(0, 0)
        with errors.open("a") as file:
            os.dup2(file.fileno(), 2)
            sys.stderr = file
            try:
                function(*arguments)
            except UserError as error:
                print(f"recgen: {error}", file=file)
                code = 2
            except BaseException:
                traceback.print_exc(file=file)
                code = 1
            else:
                code = 0
            file.flush()
            os._exit(code)

    process = _FORK.Process(target=body)
    process.start()
    return process


# ---- kills ----


def kills(
    config: Path, folder: Path, whole: dict[str, Any], rng: random.Random, seconds: float, workers: int
) -> Tally:
    """Run a configuration to its end, killing it again and again at random moments, half of them at a write.

    Parameters
    ----------
    config
        The configuration.
    folder
        Where to run it.
    whole
        `results` of an undisturbed run.
    rng
        Decides when and, of several processes, which is killed.
    seconds
        What an undisturbed run takes here, about.
    workers
        As `recgen.workers`.
    """
    tally, errors = Tally(), folder.with_suffix(".errors")
    records: dict[Path, int] = {}
    for attempt in range(40):
        last = attempt == 39  # and is left alone
        write = rng.randrange(1, 60) if workers == 1 and rng.random() < 0.5 else 0
        process = _child(errors, _run, config, folder, workers, 0 if last else write)
        if not write and not last:
            _kill_sometime(process, rng.uniform(0.02, 0.5) * seconds, rng)
        process.join()
        again = [
            path.stem
            for path, time in records.items()
            if not path.exists() or path.stat().st_mtime_ns != time
        ]
        tally.lost += [f"{name} was done again after attempt {attempt}" for name in again]
        records = {path: path.stat().st_mtime_ns for path in (folder / "stages").glob("[a-z]*.json")}
        if process.exitcode == 0:
            break
        if process.exitcode in (-signal.SIGKILL, 2) and _killed_inside(errors, process.exitcode):
            stage = _under_way(folder)
            tally.tried[f"kills in {stage}"] += 1
        else:
            tally.tracebacks.append(f"exit {process.exitcode}: {errors.read_text()[-2000:]}")
            return tally
    tally.lost += [f"{name} differs after kills" for name in differing(whole, results(folder))]
    if "Traceback" in errors.read_text():
        tally.tracebacks.append(errors.read_text()[-2000:])
    shutil.rmtree(folder, ignore_errors=True)
    errors.unlink()
    return tally


def _killed_inside(errors: Path, code: int) -> bool:
    """Return whether an attempt ended by a kill: of itself, or of its processes often enough for it to give up and say so."""
    return code < 0 or "signal 9" in errors.read_text()


def _run(config: Path, folder: Path, workers: int, write: int) -> None:
    """Run, and with `write` above 0 die at so many writes, before or after the file has its name."""
    if write:
        die_at_write(write)
    session.run(str(config), str(folder), [f"recgen.workers={workers}"])


def _kill_sometime(process: Any, seconds: float, rng: random.Random) -> None:
    """Kill a process or one of those that work for it after so many seconds, if it is still there."""
    import psutil

    process.join(seconds)
    if process.exitcode is not None:
        return
    try:
        victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        victims = [each for each in victims if each.pid == process.pid or pool._BOOT in each.cmdline()]
        chosen = rng.choice(victims)
        chosen.kill()
        if chosen.pid != process.pid:  # the run goes on in another process, for a moment
            process.join(rng.uniform(0.02, 0.3) * seconds)
            process.kill()
    except psutil.NoSuchProcess:
        pass


def _under_way(folder: Path) -> str:
    """Return the stage that was under way when a run was killed."""
    started = sorted((folder / "stages").glob("[a-z]*.started"))
    if not started:
        return "between tasks"
    name = started[-1].stem
    return "generator.fit" if name.startswith("generator.fit") else name.split(".")[0]


# ---- full disks ----


def full_disk(config: Path, whole: dict[str, Any], rng: random.Random, room: int) -> Tally:
    """Run on a disk that is too small, then on one that has become large enough.

    Parameters
    ----------
    config, whole, rng
        As of `kills`.
    room
        Bytes that an undisturbed run takes.
    """
    tally = Tally()
    place = Path(tempfile.mkdtemp())
    errors, said = place / "errors", place / "said.json"
    size = int(rng.uniform(0.02, 0.95) * room) // 4096 * 4096
    process = _child(errors, _run_on_small_disk, config, place / "disk", size, whole, said)
    process.join()
    found = json.loads(said.read_text()) if said.exists() else {}
    if found.get("skipped"):
        tally.tried["full disks (not allowed to mount one here)"] += 1
    elif process.exitcode != 0 or "Traceback" in errors.read_text():
        tally.tracebacks.append(f"a disk of {size} bytes: {errors.read_text()[-2000:]}")
    else:
        tally.tried["full disks" if found["full"] else "small disks that were large enough"] += 1
        tally.lost += [f"{name} differs after a disk of {size} bytes" for name in found["differing"]]
    shutil.rmtree(place, ignore_errors=True)
    return tally


def _run_on_small_disk(config: Path, disk: Path, size: int, whole: dict[str, Any], said: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    disk.mkdir()
    mounted = libc.unshare(_NEW_MOUNTS | (0 if os.geteuid() == 0 else _NEW_USERS)) == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=False
        ).returncode
        == 0
    )
    if not mounted:
        said.write_text(json.dumps({"skipped": True}))
        return
    full = False
    try:
        session.run(str(config), str(disk / "run"))
    except Exception as error:
        full = True
        message = cli_message(error)
        if message is None or "no space left" not in message.lower():
            raise
    subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
    session.run(str(config), str(disk / "run"))
    said.write_text(json.dumps({"full": full, "differing": differing(whole, results(disk / "run"))}))


def cli_message(error: BaseException) -> str | None:
    """Return the message of a mistake of the user's, or of a machine that is full; None for anything else."""
    from recgen.core.errors import of_machine

    known = error if isinstance(error, UserError) else of_machine(error)
    return None if known is None else str(known)


# ---- damaged files ----


def damaged_files(
    config: Path, finished: Path, whole: dict[str, Any], rng: random.Random, names: list[str], folder: Path
) -> Tally:
    """Damage some files of a finished run, run it again, and compare everything with what it was.

    Where a file keeps its size and time, as on a failing disk, `recgen verify` has to find it; else the run itself has to.
    """
    tally = Tally()
    shutil.copytree(finished, folder)
    done = []
    others = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for name in names:
        operation = rng.choice(OPERATIONS)
        kept = rng.random() < 0.3 and operation in ("flip", "swap")
        if (folder / name).is_file() and _damage(folder / name, operation, others, rng, kept):
            done.append(f"{operation} {name}{' keeping its time' if kept else ''}")
            tally.tried[f"files: {operation}"] += 1
    told = "; ".join(done)
    try:
        with suppress(UserError):
            api.verify(folder)
        session.run(str(config), str(folder))
    except UserError as error:
        tally.tracebacks.append(f"{told}: {error}")
    except Exception:
        tally.tracebacks.append(f"{told}: {traceback.format_exc()[-2000:]}")
    else:
        tally.silent += [f"{name} is another after {told}" for name in differing(whole, results(folder))]
    shutil.rmtree(folder)
    return tally


def _damage(path: Path, operation: str, others: list[Path], rng: random.Random, kept: bool) -> bool:
    """Damage a file in one of several ways; return whether it is another file then."""
    before, times = path.read_bytes(), path.stat()
    if operation == "delete":
        path.unlink()
        return True
    if operation == "swap":
        partners = [
            other for other in others if other.is_file() and other.suffix == path.suffix and other != path
        ]
        partners = [each for each in partners if not kept or each.stat().st_size == times.st_size]
        if not partners:
            return False
        after = rng.choice(partners).read_bytes()
    else:
        place = rng.randrange(len(before)) if before else 0
        flipped = (
            before[:place] + bytes([before[place] ^ (1 << rng.randrange(8))]) + before[place + 1 :]
            if before
            else b"x"
        )
        made = {
            "flip": flipped,
            "truncate": before[:place],
            "empty": b"",
            "garbage": rng.randbytes(rng.randrange(1, 4096)),
        }
        after = made[operation]
    path.write_bytes(after)
    if kept:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return after != before


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a function takes, and what it returns."""
    started = time.perf_counter()
    value = function()
    return time.perf_counter() - started, value
