"""What the image is built from is all of the four packages, shipped models, templates and YAMLs among them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("recgen", "generators", "ranking_models", "recbole_configs")
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".*")


def copied() -> list[tuple[list[str], str]]:
    """Return the sources and the destination of each COPY in the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("COPY ")]
    return [(sources, destination) for _, *sources, destination in words]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Return the names in a wheel that is built from what the Dockerfile copies, laid as it lays it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for sources, destination in copied():
        for name in sources:
            if (ROOT / name).is_dir():  # COPY takes what is in a folder, not the folder
                shutil.copytree(ROOT / name, source / destination, ignore=NOT_SOURCES, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, source / destination)
    program = f"import setuptools.build_meta as backend; backend.build_wheel({str(built)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = built.glob("recgen-*.whl")
    with ZipFile(file) as archive:
        return set(archive.namelist())


def test_a_wheel_from_what_the_dockerfile_copies_holds_every_file_of_the_packages(wheel):
    there = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    assert len(there) > 100
    assert not sorted(there - wheel), (
        "not in the wheel: see package_data in setup.py, and COPY in the Dockerfile"
    )
