"""The first lines of a report and the last of a terminal: the answer, and what keeps it from meaning more."""

import json

import pytest
from report_page import by_id, read
from report_run import make_run, metrics_of

from recgen.cli import listing
from recgen.report import build
from recgen.report.headline import headline, limits

TRUTH = {"value": 0.3, "low": 0.25, "high": 0.35, "n": 30}


def contrast(name, kind="swapped", low=0.02, high=0.2, metric="percentile_gain_judge", **values):
    """One entry of metrics.json's contrasts."""
    entry = {"a": name, "b": "x", "metric": metric, "kind": kind, "difference": (low + high) / 2, "low": low}
    entry |= {"high": high, "p": 0.001 if low * high > 0 else 0.4, "n": 30, "test": "t", "primary": False}
    return {**entry, "p_holm": entry["p"], "detectable": 0.03, "needed": 897, **values}


def metrics_with(*contrasts, generators=("rebeca",), **facts):
    return {
        "creatives": {name: {} for name in generators},
        "tests": {"contrasts": list(contrasts), "paired": []},
        "run": {"rendered": True, "users": 608, **facts},
    }


def test_a_gain_is_told_in_units_that_need_no_table():
    told = headline(metrics_with(contrast("rebeca"), contrast("rebeca", "net of placebo")))
    assert told.verdict == "good" and told.sentences[0].startswith("Yes: an image made for a user")
    assert told.limits == [limit for limit in told.limits if "Nobody's true taste is known" in limit]
    assert told.sentences[1] == (
        "rebeca: with the user's own image instead of another user's the item rises by +11.0 percentiles of the judge's list "
        "(95% interval 2.0 to 20.0), and more than a placebo."
    )


def test_a_difference_of_scores_is_told_with_what_it_is_in_places():
    scores = [
        contrast("rebeca", kind, metric="standardised_gain_judge") for kind in ("swapped", "net of placebo")
    ]
    told = headline(metrics_with(*scores, contrast("rebeca", low=0.01, high=0.03)))
    assert told.sentences[1] == (
        "rebeca: with the user's own image instead of another user's the judge's score of the item rises by +0.11 standard "
        "deviations of the user's scores (95% interval 0.02 to 0.20), +2.0 percentiles of its list, and more than a placebo."
    )


def test_a_truth_is_what_is_told_where_there_is_one():
    kinds = [contrast("rebeca", kind, metric="true_utility_gain") for kind in ("swapped", "net of placebo")]
    found = metrics_with(*kinds, contrast("rebeca", low=-0.2, high=-0.1))
    found["creatives"]["rebeca"]["true_utility_gain"] = TRUTH
    told = headline(found)
    assert (
        told.verdict == "good"
        and "adds +0.11 log-odds of a click by the user's true taste" in told.sentences[1]
    )
    assert told.limits[-1].startswith("The users' taste in images is simulated")


def test_nothing_is_claimed_of_generators_whose_verdict_is_another():
    pairs = [contrast("a"), contrast("a", "net of placebo"), contrast("b"), contrast("b", "net of placebo")]
    found = metrics_with(*pairs, contrast("c", low=-0.1, high=0.1), generators=("a", "b", "c"))
    assert headline(found).sentences[1].endswith("and more than a placebo; likewise b.")


@pytest.mark.parametrize(
    ("contrasts", "start", "ends"),
    [
        (
            [contrast("rebeca", low=-0.1, high=0.1)],
            "This run cannot tell",
            "takes about 900 requests; here are 30.",
        ),
        ([contrast("rebeca", low=-0.1, high=0.1, needed=None)], "This run cannot tell", "−10.0 to 10.0)."),
        ([contrast("rebeca", low=-0.2, high=-0.02)], "No: an image made for another user", "−20.0 to −2.0)."),
        ([], "This run cannot tell", "(the control swapped)."),
        ([contrast("rebeca")], "This run cannot tell", "2.0 to 20.0)."),
    ],
    ids=["across", "no power", "below", "not measured", "without a placebo"],
)
def test_no_more_is_said_than_the_verdicts_say(contrasts, start, ends):
    if ends.startswith("2.0"):
        contrasts = [{**contrasts[0], "needed": 12}]
    told = headline(metrics_with(*contrasts))
    assert told.sentences[0].startswith(start) and told.sentences[-1].endswith(ends)


def test_demo_models_on_other_images_come_first_among_what_limits():
    told = limits(metrics_with(rendered=False, encoder="demo-clip", backbone="demo-sd"))
    assert "demo-sd, which can draw only the symbols" in told[0]
    assert "through demo-clip, which has seen none like them" in told[0]
    assert told[0].endswith("Set recgen.encoder and recgen.backbone.")
    real = metrics_with(rendered=False, encoder="ViT-H-14 (laion2b)", backbone="stable-diffusion-v1-5")
    assert not any("demo-" in limit for limit in limits(real))
    elsewhere = limits(metrics_with(rendered=False, encoder="demo-clip", backbone=None))
    assert "drawn by" not in elsewhere[0] and elsewhere[0].endswith("Set recgen.encoder.")
    assert not any(
        "demo-" in limit for limit in limits(metrics_with(encoder="demo-clip", backbone="demo-sd"))
    )


@pytest.mark.parametrize(("recall", "popular", "weak"), [(0.039, 0.0395, True), (0.2, 0.0395, False)])
def test_a_recommender_no_better_than_popularity_is_named(recall, popular, weak):
    found = metrics_with()
    found["downstream"] = {"ORI": {"recall@10": {"value": recall, "low": None, "high": None, "n": 1}}}
    found["downstream_baselines"] = {"chance": {"recall@10": 0.001}, "popularity": {"recall@10": popular}}
    assert any("better than popularity" in limit for limit in limits(found)) is weak
    found["run"]["judge_auc"] = 0.8  # a judge of likes and dislikes is not trained to rank
    assert not any("better than popularity" in limit for limit in limits(found))


@pytest.mark.parametrize(("auc", "weak"), [(0.62, True), (0.75, False), (0.5, False)])
def test_a_judge_that_knows_no_more_than_popularity_is_named(auc, weak):
    """One that knows no more than chance has a banner instead; the recommender is not asked where judges are measured."""
    found = metrics_with()
    found["downstream"] = {"ORI": {"recall@10": {"value": 0.039, "low": None, "high": None, "n": 1}}}
    found["downstream_baselines"] = {"chance": {"recall@10": 0.001}, "popularity": {"recall@10": 0.04}}
    known = {"encoder": "demo-clip", "popularity_auc": 0.6, "likes": 400, "dislikes": 800}
    found["judges"] = [{**known, "auc": auc}]
    told = [limit for limit in limits(found) if "popularity" in limit]
    assert len(told) == weak and all(
        "The judge is not shown" in limit and f"AUC {auc:.3f} and 0.600" in limit for limit in told
    )
    found["judges"] = [{**known, "auc": 0.8}, {**known, "encoder": "demo-resnet", "auc": auc}]
    assert any("The judge that sees through demo-resnet is not" in limit for limit in limits(found)) is (
        auc < 0.65
    )


@pytest.mark.parametrize(("draws", "said"), [(5, True), (2, False)])
def test_what_images_are_worth_is_told_where_the_draws_can_tell(draws, said):
    found = metrics_with()
    found["tests"]["paired"] = [
        {"a": name, "b": "ORI", "metric": "ndcg@10", "difference": 0.0, "low": -0.1, "high": 0.1, "p": 1.0}
        | {"n": draws, "test": "t"}
        for name in ("SHUFFLED", "NONE")
    ]
    assert any("not shown to gain from images" in limit for limit in limits(found)) is said


def test_the_report_begins_with_it(tmp_path):
    run = make_run(tmp_path / "run", ("rebeca", "ip_adapter"))
    stored = metrics_of(run)
    stored["run"] |= {"rendered": False, "encoder": "demo-clip", "backbone": "demo-sd"}
    (run / "metrics.json").write_text(json.dumps(stored))
    page = read(build(run))
    first = by_id(page, "headline-answer")
    told = headline(stored)
    assert all(sentence in first.text for sentence in (*told.sentences, *told.limits))
    assert len(first.all("dt")) == 3 and "ip_adapter" in first.all("dd")[0].text
    order = [element.attributes.get("id") for element in page.all() if element.attributes.get("id")]
    assert order.index("headline-answer") < order.index("credibility")


def test_the_terminal_ends_with_it(tmp_path):
    stored = metrics_of(make_run(tmp_path / "run", ("rebeca", "ip_adapter")))
    said = listing.results(stored)
    assert f"In short:\n  {' '.join(headline(stored).sentences)}" in said
    assert said.rstrip().endswith(headline(stored).limits[-1])
    assert "the original images" in said, "and what each source of images is"


@pytest.mark.parametrize("width", [70, 100, 400])
def test_no_line_is_longer_than_the_terminal(tmp_path, width):
    names = ("rebeca", "ip_adapter", "a_generator_of_a_long_name", "another")
    said = listing.results(metrics_of(make_run(tmp_path / "run", names)), width)
    lines = said.splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("Images") for line in lines) == {70: 4, 100: 2, 400: 1}[width]
    assert all(any(f"  {name}" in line for line in lines if line.startswith("Images")) for name in names)
