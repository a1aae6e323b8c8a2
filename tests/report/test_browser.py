"""A browser opens the report: it renders, asks for nothing and complains about nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from chromium import Browser
from report_run import make_run, metrics_of

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The questionnaire's browser, which does what a test says."""
    with Browser(CHROMIUM, tmp_path_factory.mktemp("driven")) as driven:
        yield driven


CHANGE = "for (const e of ['change', 'input']) document.getElementById('{0}').dispatchEvent(new Event(e))"


TITLES = "[...document.querySelectorAll('.card h3')].map(e => e.textContent)"


def choose(browser, tool, value):
    browser.run(f"document.getElementById('{tool}').value = '{value}'; {CHANGE.format(tool)}")


def test_the_gallery_is_sorted_filtered_and_searched(browser, tmp_path):
    browser.open(build(make_run(tmp_path / "run", ("rebeca", "ip_adapter"))))
    gains = (
        "[...document.querySelectorAll('#cards .card')].map(card =>"
        " Number(card.querySelector('[data-generator=ip_adapter]').dataset.gain))"
    )
    browser.run("document.querySelector('#cards details').open = true")
    choose(browser, "show-generator", "ip_adapter")
    seen = browser.run(
        "[...document.querySelectorAll('[data-generator]')].filter(e => e.checkVisibility()).length"
    )
    assert seen == len(browser.run(gains)) > 20, "one generator's images are left"
    choose(browser, "order", "best")
    found = browser.run(gains)
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    choose(browser, "order", "worst")
    assert browser.run(gains) == sorted(found)
    browser.run("document.querySelector('#cards details').open = false")
    choose(browser, "search", "number 7,")
    titles = browser.run(
        "[...document.querySelectorAll('.card')].filter(e => e.checkVisibility()).map(e => e.querySelector('h3').innerText)"
    )
    there = [title for title in browser.run(TITLES) if "number 7," in title]
    assert titles == there and there, "what is found stands before the fold"


def test_no_table_is_cut_at_1400_pixels(browser, tmp_path):
    browser.open(build(make_run(tmp_path / "run", tuple(f"generator_{k}" for k in range(14)))))
    size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.tell("Emulation.setDeviceMetricsOverride", **size)
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true })")
    cut = browser.run(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.getAttribute('aria-label') + ' ' + e.scrollWidth + ' > ' + e.clientWidth)"
    )
    assert cut == [] and not browser.run("document.documentElement.scrollWidth > innerWidth")


WIDE = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
CLOSED = "[...document.querySelectorAll('main > section > details > *:not(summary)')].filter(e => !e.checkVisibility()).length"


@pytest.fixture
def three(browser, tmp_path):
    """A report of three generators, open in a window of 1280 pixels; afterwards the browser is as it was."""
    browser.tell("Emulation.setDeviceMetricsOverride", **WIDE)
    browser.page = build(make_run(tmp_path / "run", ("rebeca", "ip_adapter", "ragar")))
    browser.open(browser.page)
    yield browser
    browser.tell("Emulation.setEmulatedMedia", media="", features=[])
    browser.tell("Emulation.setScriptExecutionDisabled", value=False)


def test_what_matters_comes_in_the_first_screens_and_the_rest_is_folded(three):
    assert three.run("document.documentElement.scrollHeight") <= 6000
    for seen in ("#headline-answer", "#controls-table", "#cards .card", "figure.plot"):
        assert three.run(f"document.querySelector('{seen}').checkVisibility()"), seen
    assert three.run(CLOSED) >= 5


@pytest.mark.parametrize("scripts", [True, False])
def test_a_link_of_the_contents_opens_what_it_points_into(three, scripts):
    three.tell("Emulation.setScriptExecutionDisabled", value=not scripts)
    three.open(three.page)
    assert three.run("document.getElementById('gallery-tools').hidden") is not scripts
    for name in ("credibility", "numbers", "downstream", "reading", "facts"):
        assert not three.run(f"document.getElementById('{name}').checkVisibility()")
        three.run(f"document.querySelector('nav a[href=\\'#{name}\\']').click()")
        three.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        assert three.run(f"document.getElementById('{name}').checkVisibility()"), name


def test_on_paper_everything_is_open(three):
    """By the style alone: scripts are off."""
    three.tell("Emulation.setScriptExecutionDisabled", value=True)
    assert three.run(CLOSED) > 0
    three.tell("Emulation.setEmulatedMedia", media="print")
    assert three.run(CLOSED) == 0


def test_the_words_and_axes_of_plots_follow_the_page_into_the_dark(three):
    three.run("document.querySelectorAll('details').forEach(e => { e.open = true })")
    luminance = (
        "[...document.querySelectorAll('figure.plot svg text')].map(e => getComputedStyle(e).fill.match(/[0-9.]+/g)"
        ".slice(0, 3).reduce((sum, each) => sum + each / 3, 0))"
    )
    assert max(three.run(luminance)) < 120, "dark on white"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    three.tell("Emulation.setEmulatedMedia", features=dark)
    assert min(three.run(luminance)) > 150, "light on black"
    background = (
        "[...document.querySelectorAll('figure.plot svg')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert set(three.run(background)) == {"rgba(0, 0, 0, 0)"}


def test_no_word_of_a_plot_is_cut(browser, tmp_path):
    run = make_run(tmp_path / "run", ("rebeca", "ip_adapter"))
    stored = metrics_of(run)
    for found in (*stored["creatives"].values(), *stored["controls"].values()):
        gain = found["percentile_gain_judge"]  # small ones below zero, whose numbers at the axis are long
        gain |= {key: gain[key] / 10 - 0.05 for key in ("value", "low", "high") if gain[key] is not None}
    (run / "metrics.json").write_text(json.dumps(stored))
    browser.open(build(run))
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.tell("Emulation.setDeviceMetricsOverride", **size)
    cut = browser.run(
        "[...document.querySelectorAll('figure.plot svg')].flatMap(svg => { const all = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => { const box = text.getBoundingClientRect();"
        " return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1 || box.bottom > all.bottom + 1;"
        " }).map(text => text.textContent) })"
    )
    assert cut == []


def test_an_image_of_the_gallery_is_seen_large_by_keyboard(browser, tmp_path):
    browser.open(build(make_run(tmp_path / "run")))
    browser.run("document.querySelector('#cards .pair img').focus()")
    press = (
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
    )
    assert browser.run("document.getElementById('zoom').open") is False
    browser.run(press)
    assert browser.run("document.getElementById('zoom').open") is True
    same = "document.querySelector('#zoom img').src === document.querySelector('#cards .pair img').src"
    assert browser.run(same) and browser.run("document.querySelector('#zoom img').width") > 200
    browser.run("document.getElementById('zoom').click()")
    assert browser.run("document.getElementById('zoom').open") is False
