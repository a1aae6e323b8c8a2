"""A process that is killed at a write of its own choosing, as a power cut would have it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path


def die_at_write(last: int, counts: Callable[[Path], bool] = lambda target: True) -> None:
    """Let this process be killed at the `last` file it puts in its place: an odd one before it has its name, an even one after.

    Those files count of whose path `counts` says so.
    """
    original, counted = Path.replace, [0]

    def replace(self: Path, target: Path) -> Path:
        counted[0] += counts(target)
        if counted[0] == last and last % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        moved = original(self, target)
        if counted[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Path.replace = replace  # type: ignore[method-assign]
