"""Runs tests in forked processes, against a module as it is or with another source text."""

from __future__ import annotations

import gc
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
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

PROJECT = ("recgen", "generators", "ranking_models", "recbole_configs", "tests")
"""Packages that every process imports for itself, so that none has seen a module before it was changed."""
MEMORY = 8 << 30
"""Bytes a process may ask for: a changed size may ask for anything."""


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
    seen
        What a run with `Watch` has seen: ``loaded``, names of modules, and ``calls``, the tests that entered each function of
        the watched file, by the function's first line.
    """

    passed: bool
    how: str
    cpu_s: float
    output: str
    seen: dict[str, Any]


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


class Watch:
    """A plugin that notes which tests enter which functions of a file.

    Functions that a fixture shared among tests enters are noted under "", since any test may depend on them.
    """

    def __init__(self, path: Path) -> None:
        self.file, self.now = str(path), ""
        self.calls: dict[int, set[str]] = {}

    def _trace(self, frame: Any, event: str, argument: Any) -> None:
        if frame.f_code.co_filename == self.file:
            self.calls.setdefault(frame.f_code.co_firstlineno, set()).add(self.now)

    def pytest_sessionstart(self) -> None:
        sys.settrace(self._trace)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
        self.now = item.nodeid
        try:
            return (yield)
        finally:
            self.now = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        before = self.now
        self.now = before if fixturedef.scope == "function" else ""
        try:
            return (yield)
        finally:
            self.now = before


class _Only:
    """A plugin that leaves out all tests but some."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid in self.names]


class Process:
    """A forked process that runs pytest.

    Parameters
    ----------
    tests
        pytest's arguments: test files, and modules whose doctests count too.
    changed
        The module with another text; None for the code as it is.
    only
        The tests to run of those found, by pytest's names; None for all.
    watch
        A file whose functions' tests are to be noted.
    cpu_s, wall_s
        Limits. CPU time is what tells an endless loop from a busy machine; the clock is only for a process that waits.
    """

    def __init__(
        self,
        tests: list[str],
        changed: Changed | None = None,
        only: frozenset[str] | None = None,
        watch: Path | None = None,
        cpu_s: float = 600,
        wall_s: float = 900,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        self.deadline = time.monotonic() + wall_s
        self.late = False
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _child(self.folder, tests, changed, only, watch, cpu_s)

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
        seen = self.folder / "seen.json"
        code = os.waitstatus_to_exitcode(status)
        if self.late or code == -signal.SIGXCPU:
            how = "time"
        else:
            how = f"signal {-code}" if code < 0 else "failed" if code else "passed"
        return Ran(how == "passed", how, cpu_s, output, json.loads(seen.read_text()) if seen.exists() else {})

    def wait(self) -> Ran:
        """Return how it ended, when it has."""
        while (ran := self.ended()) is None:
            time.sleep(0.01)
        return ran


def _child(
    folder: Path,
    tests: list[str],
    changed: Changed | None,
    only: frozenset[str] | None,
    watch: Path | None,
    cpu_s: float,
) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 10))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # looking for plugins takes longer than most tests
        finder = [_Finder(changed)] if changed else []
        sys.meta_path[:0] = finder
        watching = [Watch(watch)] if watch else []
        plugins = [*finder, *watching, *([] if only is None else [_Only(only)])]
        options = ["-x", "-q", "-p", "no:cacheprovider", "--doctest-modules", f"--basetemp={folder / 'tmp'}"]
        code = int(pytest.main([*options, *tests], plugins=plugins))
        for each in watching:
            sys.settrace(None)
            calls = {str(line): sorted(names) for line, names in each.calls.items()}
            (folder / "seen.json").write_text(json.dumps({"loaded": sorted(sys.modules), "calls": calls}))
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
    gc.collect()
    gc.freeze()  # else the collector of every process would write to, and so copy, what they share


_KEEP: list[ModuleType] = []


def _is_own(name: str) -> bool:
    return name.split(".")[0] in (*PROJECT, "__main__", "conftest")
