"""The demo as a newcomer starts it: `recgen run --config demo`, with the processes that it takes by itself.

Seconds by the clock from the command's start to its end, CPU seconds of all its processes, and the peak of the largest one. The
environment's load average says whether anything else was at work.

usage: python experiments/benchmarks/demo.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data import environment, write_result

COMMAND = "from recgen.cli import main; main()"


def main() -> None:
    """Run the demo into a folder of its own and write demo.json."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        started = time.perf_counter()
        asked = [sys.executable, "-c", COMMAND, "run", "--config", "demo", "--out", str(out)]
        subprocess.run(asked, check=True, capture_output=True, text=True)
        wall = time.perf_counter() - started
        images = sum(1 for _ in (out / "creatives").rglob("*.png"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_result(
        Path(__file__),
        {
            "seconds": {"wall": wall, "cpu": used.ru_utime + used.ru_stime},
            "largest process, MiB": used.ru_maxrss / 1024,
            "images": images,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
