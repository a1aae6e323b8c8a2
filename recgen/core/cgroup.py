"""What a container, a pod or a job scheduler leaves this process of the machine, as Linux control groups of both versions say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cores() -> int | None:
    """Return how many cores' time the tightest quota leaves, rounded up; None where there is none.

    A quota (`docker run --cpus`, `limits.cpu` of a pod) does not keep a process off any core, so that its affinity says nothing.
    """
    quotas = []
    for group in _groups("cpu"):
        both = _read(group / "cpu.max")  # version 2: "200000 100000" or "max 100000", in microseconds
        apart = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        match [_number(word) for word in (both.split() if both else apart)]:
            case [int(time), int(period)] if time > 0 and period > 0:  # version 1 says -1 where there is none
                quotas.append(time / period)
    return max(math.ceil(min(quotas)), 1) if quotas else None


def free_memory() -> float | None:
    """Return how many GiB the tightest limit leaves, files in its cache counted as free; None where there is none."""
    left = []
    for group in _groups("memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            allowed, taken = _number(_read(group / limit)), _number(_read(group / used))
            if allowed is not None and taken is not None:
                statistics = dict(
                    line.split(maxsplit=1) for line in (_read(group / "memory.stat") or "").splitlines()
                )
                left.append(allowed - taken + (_number(statistics.get(cache)) or 0))
    return max(min(left), 0) / 2**30 if left else None


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups this process is in, the outer ones last; each bounds those within it.

    Inside a container the mount's own folder is the container's group, whatever path the process's list of groups gives.
    """
    for line in (_read(OWN) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):  # version 2 names none
            mount = MOUNT / controllers if controllers else MOUNT
            inside = Path(path.lstrip("/"))
            for part in (inside, *inside.parents):
                if ".." not in part.parts and (mount / part).is_dir():
                    yield mount / part


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
