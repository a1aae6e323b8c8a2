"""A questionnaire is made from a run, filled in by a browser, and scored; and it does not say whose an image is."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import Browser
from PIL import Image
from report_run import HOSTILE, make_run

from recgen.core.errors import UserError
from recgen.survey.page import make
from recgen.survey.questions import Study
from recgen.survey.scoring import analyse, kendall_w, score

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SOURCES = ["ORI", "rebeca", "pmg"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run of two generators; one item's text is hostile."""
    folder = tmp_path_factory.mktemp("study") / "run"
    return make_run(
        folder,
        generators=("rebeca", "pmg"),
        texts=dict.fromkeys(range(0, 30, 2), HOSTILE),
        without_history=(5,),
    )


@pytest.fixture(scope="module")
def page(run) -> Path:
    """A questionnaire of six questions."""
    out = run.parent / "ask.html"
    make(str(run), str(out), items=6)
    return out


def key(run: Path, page: Path) -> Study:
    name = re.search(r'data-study="(\w+)"', page.read_text(encoding="utf-8")).group(1)
    return Study.read(run, name, "test")


def options(text: str) -> list[Image.Image]:
    """Return the images to rank in a page."""
    codes = re.findall(r'option" data[^>]*><img src="[^,]*,([^"]*)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in codes]


def test_every_question_has_every_source_once(run, page):
    study = key(run, page)
    assert study.sources == SOURCES and len(study.questions) == 6
    assert len({question.item_id for question in study.questions}) == 6
    for question in study.questions:
        assert sorted(question.options.values()) == sorted(SOURCES) and sorted(question.options) == [
            "a",
            "b",
            "c",
        ]
        assert question.item_id not in ("i3", "i5"), "i3 has no image, i5's user no history"
    orders = {tuple(question.options.values()) for question in study.questions}
    assert len(orders) > 2, "the letters say nothing"


def test_the_page_does_not_say_whose_an_image_is(run, page):
    text = page.read_text(encoding="utf-8")
    for word in (*SOURCES, "generator", "creatives", ".png"):
        assert word not in re.sub(r"base64,[^\"]*", "", text)
    shown = options(text)
    assert len(shown) == 18 and {image.size for image in shown} == {(64, 64)}
    assert not any(image.info.keys() & {"exif", "xmp", "recgen"} for image in shown)
    assert "<script>alert" not in text


def test_images_of_other_shapes_are_cut_to_one(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for image in (copy / "dataset/images").iterdir():
        Image.open(image).resize((300, 450)).save(image)
    make(str(copy), str(tmp_path / "ask.html"), items=2)
    text = (tmp_path / "ask.html").read_text(encoding="utf-8")
    assert {image.size for image in options(text)} == {(64, 64)}


def test_the_same_seed_asks_the_same(run, page, tmp_path):
    make(str(run), str(tmp_path / "again.html"), items=6)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    make(str(run), str(tmp_path / "other.html"), items=6, seed=1)
    assert key(run, tmp_path / "other.html").questions != key(run, page).questions


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_fills_it_in_and_it_is_scored(run, page, tmp_path):
    """One respondent ranks by the key's order of sources, by JSON; another the other way round, by CSV."""
    study = key(run, page)
    wanted = {
        str(n): sorted(q.options, key=lambda x, q=q: SOURCES.index(q.options[x]))
        for n, q in enumerate(study.questions, 1)
    }
    press = """for (const [question, letters] of Object.entries(%s)) for (const letter of letters)
        document.querySelector(`[data-question="${question}"] [data-option="${letter}"]`).click();"""
    name = "document.getElementById('respondent').value = '%s';"
    with Browser(CHROMIUM, tmp_path) as browser:
        browser.open(page)
        assert browser.run("document.getElementById('json').disabled") is True
        browser.run(name % 'Ada, "x"' + press % json.dumps(wanted))
        assert browser.run("document.getElementById('progress').textContent") == "6 of 6 questions ranked"
        first = browser.downloaded("document.getElementById('json').click()")
        shown = [tuple(each["shown"]) for each in json.loads(first.read_text())["answers"]]
        browser.open(page)
        assert browser.run("document.querySelectorAll('[aria-pressed=true]').length") == 18, (
            "kept over a reload"
        )
        browser.run("document.querySelectorAll('.option').forEach((option) => option.click())")
        assert browser.run("document.getElementById('progress').textContent") == "0 of 6 questions ranked"
        backwards = {number: letters[::-1] for number, letters in wanted.items()}
        del backwards["6"]
        browser.run(name % "Bob" + press % json.dumps(backwards))
        second = browser.downloaded("document.getElementById('csv').click()")
    assert len(set(shown)) > 1, "each question has an order of its own"
    told = score(str(run), [str(first), str(second)])
    assert "2 respondents, 6 questions, 11 rankings" in told
    results = json.loads((run / f"study/{study.name}.results.json").read_text())
    assert results["sources"]["ORI"]["mean_rank"]["value"] == pytest.approx((6 * 1 + 5 * 3) / 11)
    assert results["sources"]["rebeca"]["mean_rank"]["value"] == 2
    assert results["sources"]["ORI"]["first"] == pytest.approx(6 / 11)
    assert results["agreement"]["w"] == 0, "two opposite rankings"


def ranks(people: int, questions: int, seed: int, signal: float) -> pd.DataFrame:
    """Ranks of respondents who like c more than b more than a by `signal`, and noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for question in range(1, questions + 1):
            liking = signal * np.arange(3) + rng.normal(size=3)
            for source, rank in zip("abc", np.argsort(np.argsort(-liking)) + 1, strict=True):
                rows.append(
                    {"respondent": f"r{person}", "question": question, "source": source, "rank": int(rank)}
                )
    return pd.DataFrame(rows)


def test_a_preference_is_found_and_chance_is_not():
    found = analyse(ranks(15, 8, 0, 1.0), list("abc"), 0)
    mean = {source: values["mean_rank"]["value"] for source, values in found["sources"].items()}
    assert mean["c"] < mean["b"] < mean["a"] and sum(mean.values()) == pytest.approx(6)
    low, high = found["sources"]["c"]["mean_rank"]["low"], found["sources"]["c"]["mean_rank"]["high"]
    assert low < mean["c"] < high < 2
    first = found["tests"][1]
    assert (first["a"], first["b"]) == ("a", "c") and first["difference"] > 0.5 and first["p"] < 0.01
    assert found["agreement"]["w"] > 0.2 and found["agreement"]["p"] < 0.01
    chance = analyse(ranks(15, 8, 1, 0.0), list("abc"), 0)
    assert chance["tests"][1]["p"] > 0.05 and chance["agreement"]["p"] > 0.05


def test_no_mean_rank_is_said_to_lie_beyond_the_ranks():
    """Of three respondents a studentised interval reaches below the first place and beyond the last."""
    found = analyse(ranks(3, 4, 3, 0.0), list("abc"), 0)["sources"].values()
    ends = [[each["mean_rank"]["low"], each["mean_rank"]["high"]] for each in found]
    ends += [each["over_questions"] for each in found]
    assert all(1 <= low < high <= 3 for low, high in ends) and [1, 3] in ends


def test_kendalls_w_is_friedmans_statistic_over_its_maximum():
    from scipy.stats import friedmanchisquare

    table = np.argsort(np.random.default_rng(3).normal(size=(7, 4)), axis=1) + 1
    assert kendall_w(table) == pytest.approx(friedmanchisquare(*table.T).statistic / (7 * 3))


def sheet(run: Path, page: Path, **changes) -> str:
    answers = [{"question": 1, "ranking": ["a", "b", "c"]}]
    return json.dumps({"study": key(run, page).name, "respondent": "r", "answers": answers, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"study": "other"}, r"the questionnaire 'other'.*--run"),
        ({"answers": [{"question": 9, "ranking": []}]}, "question 9; expected 1 to 6"),
        ({"answers": [{"question": 1, "ranking": ["a", "b", "b"]}]}, "question 1: found the ranking a, b, b"),
        ({"answers": [{"question": 1}]}, "answers.0.ranking"),
        ({"answers": []}, "no question with a full ranking"),
    ],
)
def test_wrong_answers_are_named(run, page, tmp_path, changes, says):
    (tmp_path / "x.json").write_text(sheet(run, page, **changes))
    with pytest.raises(UserError, match=says):
        score(str(run), [str(tmp_path / "x.json")])


def test_one_answer_counts_once(run, page, tmp_path):
    for name in ("x", "y"):
        (tmp_path / f"{name}.json").write_text(sheet(run, page))
    with pytest.raises(UserError, match=r"question 1 by 'r' again, after .*x\.json"):
        score(str(run), [str(tmp_path / "x.json"), str(tmp_path / "y.json")])


def test_files_that_are_no_answers_are_named(run, tmp_path):
    tied = "study,respondent,question,option,rank\ns,r,1,a,1\ns,r,1,b,1\n"
    for name, text in (("a.csv", "x,y\n1,2\n"), ("b.json", "{"), ("c.csv", "\xff"), ("tied.csv", tied)):
        (tmp_path / name).write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=f"{name}.*downloaded from the questionnaire"):
            score(str(run), [str(tmp_path / name)])


@pytest.mark.parametrize(
    ("sources", "says"), [(("rebekka",), "Did you mean 'rebeca'?"), (("pmg",), "two or more")]
)
def test_wrong_sources_are_named(run, tmp_path, sources, says):
    with pytest.raises(UserError, match=re.escape(says)):
        make(str(run), str(tmp_path / "x.html"), sources=sources)
    assert not (tmp_path / "x.html").exists()
