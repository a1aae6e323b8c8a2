"""The command line, called as a user calls it."""

from __future__ import annotations

import sys

from recgen import cli

SHIPPED = ("recgen.encoder=demo-clip", "recgen.backbone=demo-sd")  # instead of the papers' weights


def command(monkeypatch, *words: str) -> int:
    """Give `recgen` a command line and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["recgen", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
