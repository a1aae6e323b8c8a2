"""What is asked of the operating system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FREED = """
import re
from pathlib import Path
import numpy as np
from recgen.core.machine import return_heap

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

np.ones(2**19)  # 4 MiB, freed at once: from here on smaller blocks come from the heap
blocks = [np.ones(2**18) for _ in range(200)]
last = np.ones(2**16)  # above them, so that they are no free end of the heap
del blocks
before = resident()
return_heap()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other heaps give back by themselves")
def test_what_was_freed_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert 390 < float(done.stdout) < 410, "MiB, of 200 blocks of two"
