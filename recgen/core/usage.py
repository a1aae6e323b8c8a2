"""What a piece of work takes of the machine: seconds, seconds of CPU and the most memory at any time."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = (
    "5"  # proc(5): writing it to clear_refs sets the peak of the resident size back to what it is now
)
_KIB, _GIB = 2.0**10, 2.0**30


class Usage:
    """Measures from when it is made, one at a time in a process.

    On Linux the peak is of the resident size since then; elsewhere, where the system only keeps that of the whole process, of the
    process since its start.

    Examples
    --------
    >>> sorted(Usage().report())
    ['cpu_seconds', 'peak_memory_gib', 'seconds']
    """

    def __init__(self) -> None:
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        with suppress(OSError):  # no Linux, or a container that forbids it
            _CLEAR.write_text(_RESET_PEAK)
        self._started, self._cpu = time.perf_counter(), _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started

    def report(self) -> dict[str, float]:
        """Return seconds, CPU seconds of this process and its children, GiB of memory and, where one works, of the GPU's."""
        found = {
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory_gib": round(_peak_memory() / _GIB, 4),
        }
        cuda = _cuda()
        if cuda is not None:
            found["peak_gpu_memory_gib"] = round(cuda.max_memory_allocated() / _GIB, 4)
        return found


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _peak_memory() -> float:
    """Return the bytes of the highest resident size."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        import resource

        most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return most if sys.platform == "darwin" else most * _KIB
    return next(float(line.split()[1]) * _KIB for line in lines if line.startswith("VmHWM"))


def _cuda() -> Any:
    """Return torch's CUDA where a GPU is at work already; asking must not wake one."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
