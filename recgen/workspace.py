"""A run's folder: what is finished, by fingerprint; atomic writes; one process at a time.

Every piece of work (a *task*) has a fingerprint: a digest of the settings it reads, of the files it reads and of the
fingerprints of the tasks before it. A task is finished when its record carries its fingerprint and its outputs are there;
it is then never done again. A task that is interrupted and starts again with the same fingerprint finds what it had
written; with another fingerprint its old outputs are removed first.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recgen.errors import UserError

TEMPORARY = ".tmp-"  # begins the names of files that are being written
_WHOLE = 16 * 2**20  # files up to this many bytes are identified by their contents


def digest(value: Any) -> str:
    """Return 32 hexadecimal digits that identify a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def identity(path: Path, endings: Sequence[str] | None = None) -> str:
    """Return what identifies a file or a folder: contents up to 16 MiB a file, else size and time of change.

    A folder of more than 64 files is identified by their names, sizes and times alone, so that a million pictures
    are not read to find out whether one of them changed. With `endings`, other files of a folder do not count.
    """
    if path.is_dir():
        found = sorted(entry for entry in path.rglob("*") if entry.is_file())
        if endings is not None:
            found = [entry for entry in found if entry.suffix.lower() in endings]
        return digest(
            [[str(entry.relative_to(path)), _file_identity(entry, len(found) <= 64)] for entry in found]
        )
    return _file_identity(path, True) if path.exists() else "absent"


def _file_identity(path: Path, contents: bool) -> str:
    status = path.stat()
    if contents and status.st_size <= _WHOLE:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return f"{status.st_size}@{status.st_mtime_ns}"


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file so that a reader, or a kill at any moment, finds either the old contents or all of the new ones.

    `durable=False` leaves out the wait for the disk (some 4 ms a file), for files of which `flush` then waits for all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def flush() -> None:
    """Wait until everything written so far is on the disk."""
    os.sync()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, the same bytes for the same value."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_parquet(path: Path, frame: Any) -> None:
    """Write a pandas frame, without its index, atomically."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def write_features(path: Path, features: Any, ids: Sequence[str] | None = None) -> None:
    """Write float32 `features` ``[n, D]`` as safetensors (key "features") and, where given, their ids beside them."""
    import numpy as np
    from safetensors.numpy import save

    if ids is not None:
        write_bytes(path.with_suffix(".ids.txt"), "".join(f"{token}\n" for token in ids).encode())
    write_bytes(path, save({"features": np.ascontiguousarray(features, dtype=np.float32)}))


def read_features(path: Path) -> Any:
    """Return the float32 array ``[n, D]`` that `write_features` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)["features"]


class Workspace:
    """The folder of one run.

    Parameters
    ----------
    root
        The folder; it is made when it is not there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes; the system lets go of it when this process ends, however it ends."""
        with (self.root / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UserError(
                    f"run folder {self.root}",
                    found=f"process {holder} at work in it",
                    expected="no other run",
                    todo="Wait for it to end, or give another folder with --out.",
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self._sweep()
            yield

    def busy(self) -> bool:
        """Return whether a process holds the folder at this moment."""
        if not (self.root / ".lock").exists():
            return False
        with (self.root / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _sweep(self) -> None:
        """Remove what a killed process was in the middle of writing."""
        for temporary in self.root.rglob(f"{TEMPORARY}*"):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink()

    def record(self, task: str, kind: str = "json") -> Path:
        """Return where it is recorded that a task is finished, or (`started`) begun."""
        return self.root / "stages" / f"{task.replace('/', '.')}.{kind}"

    def finished(self, task: str, fingerprint: str) -> bool:
        """Return whether the task has a record of this fingerprint and its outputs are still there."""
        record = _read_json(self.record(task))
        if record is None or record.get("fingerprint") != fingerprint:
            return False
        return all((self.root / output).exists() for output in record["outputs"])

    def outputs(self, task: str) -> list[str]:
        """Return the outputs on record of a finished task, relative to the folder."""
        return (_read_json(self.record(task)) or {"outputs": []})["outputs"]

    def begin(self, task: str, fingerprint: str, owned: Iterable[str]) -> None:
        """Open a task: keep what an interrupted run of the same fingerprint left, remove any other's outputs."""
        self.record(task).unlink(missing_ok=True)
        started = self.record(task, "started")
        if (_read_json(started) or {}).get("fingerprint") == fingerprint:
            return
        for output in owned:
            path = self.root / output
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_json(started, {"fingerprint": fingerprint})

    def finish(self, task: str, fingerprint: str, seconds: float, outputs: Iterable[Path]) -> None:
        """Record a task as finished."""
        names = [str(path.relative_to(self.root)) for path in outputs]
        record = {"fingerprint": fingerprint, "seconds": round(seconds, 3), "outputs": names}
        write_json(self.record(task), record)
        self.record(task, "started").unlink(missing_ok=True)

    def forget(self, task: str) -> None:
        """Make a task count as never started."""
        self.record(task).unlink(missing_ok=True)
        self.record(task, "started").unlink(missing_ok=True)

    def seconds(self) -> dict[str, float]:
        """Return how long each finished task took, by name."""
        records = {path.stem: _read_json(path) for path in sorted((self.root / "stages").glob("*.json"))}
        return {name: record["seconds"] for name, record in records.items() if record}


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's value, or None where it is absent or cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
