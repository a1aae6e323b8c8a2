"""Runs tests in forked processes, against a module as it is or with another source text."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PROJECT = ("recgen", "generators", "ranking_models", "recbole_configs", "tests")
"""Packages that every process imports for itself, so that none has seen a module before it was changed."""


@dataclass(frozen=True)
class Changed:
    """A module with another source text.

    Attributes
    ----------
    path
        The module's file, which is not touched.
    code
        Its source text instead.
    """

    path: Path
    code: str


@dataclass(frozen=True)
class Ran:
    """How a process of tests ended.

    Attributes
    ----------
    passed
        Whether all tests passed.
    how
        ``passed``, ``failed``, ``signal N`` or ``time``.
    cpu_s
        Its CPU seconds.
    output
        What it printed.
    loaded
        The modules that it had imported in the end, and whether the changed one was among them.
    """

    passed: bool
    how: str
    cpu_s: float
    output: str
    loaded: list[str]


class _Finder:
    """Loads one file from a text in memory, never from or into a cache of byte code."""

    def __init__(self, changed: Changed) -> None:
        self.changed = changed

    def pytest_sessionstart(self) -> None:
        """Stand before pytest's own finder again, which reads files that it was given by name, as for doctests, from disk."""
        sys.meta_path.remove(self)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != self.changed.path:
            return None
        return importlib.util.spec_from_file_location(name, spec.origin, loader=_Loader(name, self.changed))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, changed: Changed) -> None:
        super().__init__(name, str(changed.path))
        self.text = changed.code

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Process:
    """A forked process that runs pytest on some files.

    Parameters
    ----------
    tests
        What pytest is given: test files, and modules whose doctests count too.
    changed
        The module with another text, or None for the code as it is.
    cpu_s, wall_s
        Limits. CPU time is what tells an endless loop from a busy machine; the clock is only for a process that waits.
    """

    def __init__(
        self, tests: list[str], changed: Changed | None, cpu_s: float = 600, wall_s: float = 900
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        self.deadline = time.monotonic() + wall_s
        self.late = False
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _child(self.folder, tests, changed, cpu_s)

    def ended(self) -> Ran | None:
        """Return how it ended, or None while it runs."""
        if not self.late and time.monotonic() > self.deadline:
            self.late = True
            os.killpg(self.pid, signal.SIGKILL)
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return None
        ran = self._read(status, used.ru_utime + used.ru_stime)
        shutil.rmtree(self.folder, ignore_errors=True)
        return ran

    def _read(self, status: int, cpu_s: float) -> Ran:
        output = (self.folder / "output").read_text(errors="replace")
        loaded = self.folder / "loaded.json"
        names = json.loads(loaded.read_text()) if loaded.exists() else []
        code = os.waitstatus_to_exitcode(status)
        if self.late or code == -signal.SIGXCPU:
            how = "time"
        else:
            how = f"signal {-code}" if code < 0 else "failed" if code else "passed"
        return Ran(how == "passed", how, cpu_s, output, names)

    def wait(self) -> Ran:
        """Return how it ended, when it has."""
        while (ran := self.ended()) is None:
            time.sleep(0.01)
        return ran


def _child(folder: Path, tests: list[str], changed: Changed | None, cpu_s: float) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 10))
        memory = 8 << 30  # a changed size may ask for anything
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        finders = [_Finder(changed)] if changed else []
        sys.meta_path[:0] = finders
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--doctest-modules"]
        code = int(pytest.main([*options, f"--basetemp={folder / 'tmp'}", *tests], plugins=finders))
        (folder / "loaded.json").write_text(json.dumps(sorted(sys.modules)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def preload(names: list[str]) -> None:
    """Import other people's packages once, here, so that processes forked later have them."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    import torch

    torch.set_num_threads(1)
    for name in names:
        if name.split(".")[0] in sys.stdlib_module_names or _is_own(name) or name in sys.modules:
            continue
        try:
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
        except Exception:  # a module that only another imports in its own way: the tests will do so
            sys.modules.pop(name, None)
    for name in [name for name in sys.modules if _is_own(name)]:
        _KEEP.append(sys.modules.pop(name))  # what compat registered with torch lasts as long as compat does


_KEEP: list[ModuleType] = []


def _is_own(name: str) -> bool:
    return name.split(".")[0] in (*PROJECT, "__main__", "conftest")
