"""Locks and cores, with what only some systems have and without it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recgen.core import cgroup, machine

HOLD = """
import sys, pathlib
from recgen.core import machine
if sys.argv[2] == "without":
    machine.fcntl = None
with machine.try_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_cores_without_affinity(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "not-linux")
    assert machine.cores() == os.cpu_count()


@pytest.mark.parametrize("system", ["with", "without"])
def test_a_lock_holds_against_another_process_and_ends_with_it(system, tmp_path, monkeypatch):
    if system == "without":
        monkeypatch.setattr(machine, "fcntl", None)
    file = tmp_path / ".lock"
    arguments = [sys.executable, "-c", HOLD, str(file), system]
    other = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(machine.Held), machine.try_lock(file):
        pass
    other.kill()
    other.wait()
    with machine.try_lock(file):
        pass


def test_waiting_without_fcntl_keeps_keys_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "fcntl", None)
    with machine.wait_lock(tmp_path / "tasks", "one"), machine.wait_lock(tmp_path / "tasks", "other"):
        pass
