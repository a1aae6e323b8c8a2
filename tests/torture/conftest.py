"""Options of the long torture."""

from __future__ import annotations


def pytest_addoption(parser):
    """Take how long to go on, and from which seed."""
    parser.addoption("--torture", type=float, default=0.0, help="minutes of the long torture")
    parser.addoption("--torture-seed", type=int, default=0, help="its seed")
