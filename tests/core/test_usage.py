"""What a task is recorded to have taken."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from recgen.core.usage import Usage


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the whole process's")
def test_the_peak_is_of_the_work_and_not_of_what_was_before():
    before = Usage()
    large = np.ones(300 * 2**17)  # 300 MiB, every page of it written
    with_it = before.report()["peak_memory_gib"]
    del large
    without = Usage().report()["peak_memory_gib"]
    assert 250 / 1024 < with_it - without < 400 / 1024


def test_seconds_of_waiting_are_no_seconds_of_cpu():
    usage = Usage()
    time.sleep(0.3)
    waited = usage.report()
    assert waited["seconds"] >= 0.3 and waited["cpu_seconds"] < 0.2
    while usage.report()["cpu_seconds"] < waited["cpu_seconds"] + 0.1:
        sum(range(10_000))
    assert usage.seconds >= waited["seconds"] + 0.05
