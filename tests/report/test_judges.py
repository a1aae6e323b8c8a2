"""What the report says of each judge, and of a run whose judges know nothing."""

import json

import pytest
from report_page import by_id, read
from report_run import metrics_of

from recgen.report import build
from recgen.report.judges import cannot_judge, judges

POOR = {"downstream": {"ORI": {"recall@10": {"value": 0.001, "low": 0.0, "high": 0.002, "n": 5}}}}
BASELINES = {
    "downstream_baselines": {
        "chance": {"recall@10": 0.01, "ndcg@10": 0.005},
        "popularity": {"recall@10": 0.03, "ndcg@10": 0.015},
    }
}


def by_auc(auc, popularity=0.6, held_out=400, encoder="demo-clip"):
    known = {"auc": auc, "popularity_auc": popularity, "likes": held_out, "dislikes": 2 * held_out}
    return {"encoder": encoder, "logloss": 0.6, **known}


def by_ranking(recall, users=800, encoder="demo-clip"):
    return {"encoder": encoder, "recall@10": recall, "ndcg@10": recall / 2, "users": users}


def panel(run, found, **facts):
    """Return the credibility panel's rows, question: (answer, figures), of a run with such judges."""
    stored = {**metrics_of(run), **POOR, **BASELINES, "judges": found}
    stored["run"] |= {"judge": "Verifier", **facts}
    (run / "metrics.json").write_text(json.dumps(stored))
    page = read(build(run))
    rows = by_id(page, "credibility-table").all("tbody")[0].all("tr")
    said = {row.all("th")[0].text: tuple(cell.text for cell in row.all("td")) for row in rows}
    return said, "cannot judge" in page.text


@pytest.mark.parametrize(
    ("auc", "held_out", "label"),
    [
        (0.78, 400, "yes"),
        (0.62, 400, "better than chance, not than popularity"),
        (0.52, 400, "no better than chance"),
        (0.62, 10, "no better than chance"),
    ],
)
def test_a_judge_of_likes_and_dislikes_is_believed_by_its_auc(run, auc, held_out, label):
    """Whatever the recommender's Recall@10: such a judge is not trained to rank. With few held out, .62 is not enough."""
    said, hopeless = panel(run, [by_auc(auc, held_out=held_out)])
    answer, figures = said["Does the judge know what users like?"]
    assert answer == label and hopeless is (label == "no better than chance")
    assert f"AUC on {held_out} likes and {2 * held_out} dislikes held out is {auc:.3f}" in figures
    assert "at random it is 0.500, by popularity 0.600" in figures
    assert not any("retrained recommender rank better" in question for question in said)


@pytest.mark.parametrize(
    ("recall", "label"),
    [(0.06, "yes"), (0.035, "better than chance, not than popularity"), (0.011, "no better than chance")],
)
def test_a_judge_that_ranks_is_believed_by_its_own_ranking(run, recall, label):
    """Not by that of a recommender which sees through the run's encoder, here a hopeless one."""
    said, hopeless = panel(run, [by_ranking(recall)])
    answer, figures = said["Does the judge rank better than chance and than popularity?"]
    assert answer == label and hopeless is (label == "no better than chance")
    assert f"Recall@10 on the test likes of 800 users is {recall:.4f}" in figures
    assert "at random it is 0.0100, by popularity 0.0300. It has learned from half" in figures
    retrained = said["Does the retrained recommender rank better than chance and than popularity?"]
    assert retrained[0] == "no better than chance"
    one_model, _ = panel(run, [by_ranking(recall)], same_judge=True)
    assert "half" not in one_model["Does the judge rank better than chance and than popularity?"][1]


def test_each_of_several_judges_has_a_row_of_its_own(run):
    """A run cannot judge only where none of them knows anything."""
    blind, sighted = by_auc(0.5, encoder="demo-resnet"), by_auc(0.8)
    said, hopeless = panel(run, [sighted, blind])
    asked = [
        f"Does the judge that sees through {name} know what users like?"
        for name in ("demo-clip", "demo-resnet")
    ]
    assert [said[question][0] for question in asked] == ["yes", "no better than chance"] and not hopeless
    assert panel(run, [blind, blind])[1]


def test_a_recommender_that_is_no_judge_is_asked_whether_it_ranks(run):
    said, hopeless = panel(run, [by_auc(0.8)], downstream={"model": "VBPR"})
    question = "Does the retrained recommender rank better than chance and than popularity?"
    assert said[question][0] == "no better than chance" and not hopeless


@pytest.mark.parametrize(
    ("auc", "dislikes", "knows"), [(0.78, 4000, True), (0.52, 4000, False), (0.6, 100, False)]
)
def test_the_judge_of_a_run_of_before_is_believed_by_what_is_on_record(auc, dislikes, knows):
    """By the AUC among the facts; of one that ranks nothing is, and the recommender stands for it."""
    facts = {"judge_auc": auc, "interactions": 6000, "dislikes": dislikes}
    assert cannot_judge({**POOR, **BASELINES, "run": facts}) is not knows
    ranks = {**POOR, **BASELINES, "run": {"judge_auc": None}}
    assert judges(ranks) == [] and cannot_judge(ranks)


def test_without_downstream_no_ranking_can_be_set_beside_chance(run):
    stored = {"judges": [by_ranking(0.06)], "run": {}}
    assert judges(stored) == [] and not cannot_judge(stored)
