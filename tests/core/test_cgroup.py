"""A container's share of cores and memory, read from the files that Linux writes for both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from recgen.core import cgroup, machine

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that writes what the kernel would show: the process's list of groups, and files under the mount."""
    monkeypatch.setattr(cgroup, "MOUNT", tmp_path / "mount")
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file: Path = tmp_path / "mount" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    return write


def test_a_container_of_version_2(system):
    """Its own group is the mount: `docker run --cpus 1.5 --memory 2g`."""
    stat = f"anon {GIB}\ninactive_file {GIB // 4}\nactive_file 5"
    system("0::/\n", {"cpu.max": "150000 100000", "memory.max": str(2 * GIB), "memory.current": str(GIB),
                      "memory.stat": stat})  # fmt: skip
    assert cgroup.cores() == 2
    assert cgroup.free_memory() == 1.25


def test_a_container_of_version_1(system):
    """The list of groups gives the host's paths, which are not there inside."""
    own = "4:memory:/docker/0123\n1:cpu,cpuacct:/docker/0123\n0::/docker/0123\n"
    system(own, {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000",
                 "memory/memory.limit_in_bytes": str(3 * GIB), "memory/memory.usage_in_bytes": str(2 * GIB),
                 "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}"})  # fmt: skip
    assert cgroup.cores() == 1
    assert cgroup.free_memory() == 1.5


def test_outer_groups_bound_inner_ones(system):
    """As a scheduler's job within its user's slice; the job itself says `max`."""
    files = {"job/step/cpu.max": "max 100000", "job/cpu.max": "400000 100000", "cpu.max": "300000 100000",
             "job/step/memory.max": "max", "job/step/memory.current": "1", "job/memory.max": str(4 * GIB),
             "job/memory.current": str(5 * GIB), "memory.max": str(9 * GIB), "memory.current": str(6 * GIB)}  # fmt: skip
    system("0::/job/step\n", files)
    assert cgroup.cores() == 3
    assert cgroup.free_memory() == 0, "more is taken than may be: a limit that was lowered"


@pytest.mark.parametrize(
    ("own", "files"),
    [("", {}), ("0::/../..\n", {"memory.max": "max", "memory.current": "5", "cpu.max": "max 100000"}),
     ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"})],
)  # fmt: skip
def test_no_limit(system, own, files):
    system(own, files)
    assert cgroup.cores() is None and cgroup.free_memory() is None
    assert machine.cores() >= 1


def test_the_share_is_what_a_run_plans_with(system):
    unbounded = machine.available_memory()
    system(
        "0::/\n", {"cpu.max": "100000 100000", "memory.max": str(GIB), "memory.current": str(GIB * 3 // 4)}
    )
    assert machine.cores() == 1
    assert machine.available_memory() == 0.25 and (unbounded is None or unbounded > 0.25)
