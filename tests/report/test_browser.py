"""A browser opens the report: it renders, asks for nothing and complains about nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_run import make_run

from recgen.report import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--window-size=420,900",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page after rendering, and what its console said."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on disk."""
    return build(make_run(tmp_path_factory.mktemp("browser") / "run"))


def test_it_opens_in_a_browser_without_a_request_or_a_complaint(report, tmp_path):
    page, console = opened(report, tmp_path / "profile")
    assert console == []
    assert page.count("<svg") == report.read_text(encoding="utf-8").count("<svg") > 4
    assert page.count('class="answer"') == 6 and page.count('class="card"') == 22
    assert '<form id="gallery-tools">' in page, "its script ran: the tools of the gallery are shown"


def test_a_request_would_have_been_seen(report, tmp_path):
    outside = report.read_text(encoding="utf-8").replace(
        "<main>", '<main><img src="http://127.0.0.1:9/x.png" alt="">'
    )
    (tmp_path / "outside.html").write_text(outside, encoding="utf-8")
    _, console = opened(tmp_path / "outside.html", tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)
