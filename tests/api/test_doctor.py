"""What the command line says before anything runs: help without heavy imports, and what is missing here."""

from __future__ import annotations

import subprocess
import sys

from recgen import doctor


def test_asking_for_help_imports_nothing_heavy():
    program = "import sys, recgen.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "click" in loaded
    assert not {"torch", "recbole", "pandas", "numpy", "transformers", "diffusers", "pydantic"} & set(loaded)


def test_doctor_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    lines = doctor.examine().split("\n")
    assert any(line.startswith("  ok  torch") for line in lines)
    assert any(line.startswith("  --  no-such-package") and "pip install" in line for line in lines)
    assert any(line.startswith("  ok  ml-100k") for line in lines)
