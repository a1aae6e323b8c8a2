"""Reports of small runs."""

import pytest
from report_page import read
from report_run import make_run

from recgen.report import build


@pytest.fixture
def run(tmp_path):
    """A run with one generator."""
    return make_run(tmp_path / "toy")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A report of three generators beside a second run, and its run's folder."""
    folder = make_run(tmp_path_factory.mktemp("a") / "toy", ("rebeca", "ip_adapter", "folder"))
    other = make_run(tmp_path_factory.mktemp("b") / "toy", ("rebeca",), seed=6)
    return folder, other, read(build(folder))
