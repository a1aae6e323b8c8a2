"""No report claims more than its numbers show: the answers, the gap, and the panel on the recommender's credibility."""

import json

import numpy as np
import pandas as pd
import pytest
from report_page import by_id, read
from report_run import ITEMS, USERS, metrics_of

from recgen.report import build, credibility, text, verdicts
from recgen.report.answers import answers
from recgen.report.run_files import RunFiles

CLEAR, BELOW, ACROSS = {"low": 0.02, "high": 0.2}, {"low": -0.2, "high": -0.02}, {"low": -0.02, "high": 0.2}


def stored_contrast(kind="swapped", metric="percentile_gain_judge", **values):
    """One entry of metrics.json's contrasts of rebeca."""
    entry = {
        "a": "rebeca",
        "b": "x",
        "metric": metric,
        "difference": 0.1,
        "p": 0.001,
        "p_holm": 0.001,
        "n": 400,
    }
    return {**entry, "kind": kind, "primary": False, "detectable": 0.03, "needed": 900, "test": "t", **values}


def test_what_is_clear_alone_may_not_be_among_others():
    kinds = ("swapped", "net of placebo")
    tests = [stored_contrast(kind, **CLEAR) | {"a": name, "p": 0.03} for kind in kinds for name in "abc"]
    label = "cannot tell among so many generators"
    assert verdicts.personal({"tests": {"contrasts": tests}}, "b") == ("unclear", label)
    tests[0]["primary"] = True
    assert verdicts.personal({"tests": {"contrasts": tests}}, "a") == ("good", "yes")


@pytest.mark.parametrize(
    "swapped, placebo, verdict, label",
    [
        (CLEAR, CLEAR, "good", "yes"),
        (CLEAR, ACROSS, "unclear", "cannot tell: selecting noises earns as much"),
        (CLEAR, None, "unclear", "cannot tell without a placebo"),
        ({**CLEAR, "p": 0.2}, CLEAR, "unclear", "cannot tell"),
        ({**BELOW, "p_holm": 0.2}, CLEAR, "unclear", "cannot tell"),
        (CLEAR, {**CLEAR, "p": 0.06}, "unclear", "cannot tell: selecting noises earns as much"),
        (ACROSS, CLEAR, "unclear", "cannot tell"),
        (BELOW, CLEAR, "bad", "no: another user's does better"),
        ({"low": None, "high": None, "p": None, "p_holm": None}, CLEAR, "unclear", "too few to tell"),
        (None, CLEAR, "unclear", "not measured"),
    ],
)
def test_no_more_is_claimed_than_the_contrasts_show(run, swapped, placebo, verdict, label):
    stored = metrics_of(run)
    stored["tests"]["contrasts"] = [
        *([] if swapped is None else [stored_contrast(**swapped)]),
        *([] if placebo is None else [stored_contrast("net of placebo", **placebo)]),
    ]
    assert verdicts.personal(stored, "rebeca") == (verdict, label)
    (run / "metrics.json").write_text(json.dumps(stored))
    lines = answers(RunFiles.read(run))[0].lines
    assert [(line.verdict, line.label) for line in lines] == ([] if swapped is None else [(verdict, label)])
    if verdict == "unclear" and swapped is not None:
        assert "about 900 would tell" in " ".join(lines[0].sentences)


def test_a_claim_beyond_the_placebo_is_corrected_for_the_number_of_generators(run):
    """Of five generators whose net gain has p = .02 each, only the primary one's holds."""
    stored = metrics_of(run)
    names = ["rebeca", "b", "c", "d", "e"]
    stored["tests"]["contrasts"] = [
        {
            **stored_contrast(kind, **CLEAR),
            "a": name,
            "p": p,
            "primary": kind == "swapped" and name == "rebeca",
        }
        for name in names
        for kind, p in (("swapped", 0.001), ("net of placebo", 0.02))
    ]
    found = [verdicts.personal(stored, name)[0] for name in names]
    assert found == ["good", "unclear", "unclear", "unclear", "unclear"]
    first, second = (" ".join(verdicts.personal_line(stored, name).sentences) for name in names[:2])
    assert "Both at once: p = 0.020." in first and "corrected for the number of generators" in second


def test_an_image_that_lifts_every_item_is_no_success(run):
    """A constant poster, the items' own images or black ones: each may rise, and none beats itself shown to another user."""
    stored = metrics_of(run)
    for key in ("delta_r_judge", "percentile_gain_judge"):
        stored["creatives"]["rebeca"][key] = {"value": 0.3, "low": 0.25, "high": 0.35, "n": 30}
    stored["creatives"]["rebeca"]["over_optimisation_gap"] = {
        "value": -0.1,
        "low": -0.2,
        "high": -0.05,
        "n": 30,
    }
    stored["creatives"]["rebeca"]["cis"] = {"value": 100.0, "low": 100.0, "high": 100.0, "n": 30}
    stored["tests"]["permutation"]["rebeca"] |= {"p": 0.001, "sd": 5.0}
    nothing = {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "p_holm": 1.0, "needed": None}
    stored["tests"]["contrasts"] = [stored_contrast(**nothing), stored_contrast("net of placebo", **nothing)]
    for test in stored["tests"]["paired"]:
        test |= {"low": 0.01, "high": 0.02, "p": 0.001, "p_holm": 0.001}
    (run / "metrics.json").write_text(json.dumps(stored))
    found = {
        answer.question: [line.verdict for line in answer.lines] for answer in answers(RunFiles.read(run))
    }
    assert len(found) == 6 and all(found.values()) and not any("good" in each for each in found.values()), (
        found
    )


@pytest.mark.parametrize(
    ("placebo", "p", "label"),
    [
        (CLEAR, 0.001, "yes"),
        (ACROSS, 0.001, "not shown beyond the placebo"),
        (None, 0.001, "cannot tell without a placebo"),
        (CLEAR, 0.2, "not shown"),
    ],
)
def test_what_the_verifier_tells_apart_is_held_against_the_placebo_where_there_is_one(run, placebo, p, label):
    stored = metrics_of(run)
    stored["tests"]["permutation"]["rebeca"] |= {"p": p, "sd": 5.0, "n": 30}
    stored["tests"]["contrasts"] = [
        stored_contrast(**CLEAR),
        *([] if placebo is None else [stored_contrast("net of placebo", **placebo)]),
    ]
    (run / "metrics.json").write_text(json.dumps(stored))
    (answer,) = [answer for answer in answers(RunFiles.read(run)) if "made for this user" in answer.question]
    assert [(line.verdict, line.label) for line in answer.lines] == [
        ("good" if label == "yes" else "unclear", label)
    ]


def test_a_truth_comes_before_the_judge(run):
    stored = metrics_of(run)
    stored["creatives"]["rebeca"]["true_utility_gain"] = {"value": 0.3, "low": 0.25, "high": 0.35, "n": 30}
    stored["tests"]["contrasts"] = [
        stored_contrast(metric="true_utility_gain", **ACROSS),
        stored_contrast(**CLEAR),
        stored_contrast("net of placebo", **CLEAR),
    ]
    (run / "metrics.json").write_text(json.dumps(stored))
    answer = answers(RunFiles.read(run))[0]
    assert answer.lines[0].label == "cannot tell" and "true taste" in answer.method
    assert answer.lines[0].sentences[0].startswith("Own minus another user's: true utility gain")
    assert "In places of the judge's list: percentile gain" in answer.lines[0].sentences[1]


@pytest.mark.parametrize(
    "low, high, label, sentence",
    [
        (0.02, 0.2, "it rises; whether for this user, cannot tell", None),
        (-0.2, -0.02, "no: it falls", None),
        (-0.02, 0.2, "cannot tell", "cannot tell a rise from a fall"),
        (None, None, "too few to tell", "no interval"),
    ],
)
def test_the_rise_claims_no_more_than_the_interval(run, low, high, label, sentence):
    stored = metrics_of(run)
    stored["tests"]["contrasts"] = []
    for key in ("delta_r_judge", "percentile_gain_judge"):
        stored["creatives"]["rebeca"][key] = {"value": 0.1, "low": low, "high": high, "n": 30}
    (run / "metrics.json").write_text(json.dumps(stored))
    (line,) = answers(RunFiles.read(run))[1].lines
    words = " ".join(line.sentences)
    assert line.label == label and "+0.100" in words
    assert (sentence in words) if sentence else ("cannot tell" not in words)
    assert words.index("items rise") < words.index("eciprocal rank gain") < words.index("ΔR (judge)")
    assert "Of the controls constant lifts most items" in words


def test_the_answer_counts_rises_and_falls(run):
    table = pd.read_parquet(run / "per_request.parquet")
    before, after = table["rank_original_judge"], table["rank_creative_judge"]
    answer = " ".join(answers(RunFiles.read(run))[1].lines[0].sentences)
    assert (
        f"{100 * (after < before).mean():.0f}% of the items rise, {100 * (after > before).mean():.0f}% fall"
        in answer
    )
    assert f"from {before.median() + 1:,.0f} to {after.median() + 1:,.0f} of {ITEMS}" in answer


def test_recognisability_is_measured_against_the_average_item(run):
    from safetensors.numpy import load_file

    made = load_file(run / "creatives/embeddings.safetensors")["features"].astype(float)
    images = load_file(run / "features/image.safetensors")["features"].astype(float)
    made, images = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (made, images))
    keep = [row for row in range(USERS) if row != 3]  # item 3 has no image
    cosines = 100 * made[keep] @ images.T
    own = np.array([cosines[k, row if row < 3 else row - 1] for k, row in enumerate(keep)])
    answer = " ".join(answers(RunFiles.read(run))[2].lines[0].sentences)
    assert f"The average item's image scores {cosines.mean():.1f}" in answer
    assert f"leaves +{(own - cosines.mean(axis=1)).mean():.1f}" in answer


@pytest.mark.parametrize(
    ("found", "verdict", "label"),
    [
        (0.02, "unclear", "its content; mostly not the item itself"),
        (0.5, "unclear", "its content; the item itself about half"),
        (0.9, "good", "mostly"),
        (None, "good", "mostly"),
    ],
)
def test_what_shows_the_content_is_recognisable_where_the_item_is_found_again(run, found, verdict, label):
    """A green verdict on images of which a search finds 2% would mislead, whatever content they share with many items."""
    stored = metrics_of(run)
    kept = {"content_preservation": 0.98}
    kept |= {} if found is None else {"retrieved_top1": 0.01, "retrieved_top10": found}
    for key in ("retrieved_top1", "retrieved_top10"):
        stored["creatives"]["rebeca"].pop(key, None)
    for key, value in kept.items():
        around = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": USERS}
        stored["creatives"]["rebeca"][key] = around
    (run / "metrics.json").write_text(json.dumps(stored))
    (line,) = answers(RunFiles.read(run))[2].lines
    assert (line.verdict, line.label) == (verdict, label)
    (sentence,) = [each for each in line.sentences if "still show what their item is" in each]
    assert "98%" in sentence and ("first ten for" in sentence) == (found is not None), (
        "one sentence says both"
    )


def test_one_model_as_reward_and_judge_shows_no_gap(run):
    stored = metrics_of(run)
    stored["run"]["same_judge"] = True
    (run / "metrics.json").write_text(json.dumps(stored))
    answer = answers(RunFiles.read(run))[5]
    assert (
        "cannot be measured" in answer.missing
        and "not a measured gap of zero" in answer.missing
        and not answer.lines
    )
    page = read(build(run)).text
    assert "a recommender that took no part" not in page
    assert (
        "the very model that rewards" in page
        and "in this run the same one" in page
        and "by construction" in page
    )


def test_the_gap_is_said_for_every_generator_with_what_it_means(three):
    folder, _, _ = three
    stored = metrics_of(folder)["creatives"]
    answer = answers(RunFiles.read(folder))[5]
    assert [line.generator for line in answer.lines] == list(stored)
    for line in answer.lines:
        gap = stored[line.generator]["over_optimisation_gap"]
        assert text.number(gap["value"], 3, signed=True) in " ".join(line.sentences)
    assert "eyes of the reward model only" in answer.method and "no gap shows" in answer.method


def test_every_answer_reaches_the_page(three):
    folder, _, page = three
    shown = [article.text for article in page.all("article", class_="answer")]
    expected = answers(RunFiles.read(folder))
    assert len(shown) == len(expected) == 6
    for words, answer in zip(shown, expected, strict=True):
        for part in (answer.question, answer.method, *(s for line in answer.lines for s in line.sentences)):
            assert " ".join(part.split()) in words


def said(run, question):
    """The answer of the credibility panel whose question has these words."""
    (check,) = [check for check in credibility.checks(RunFiles.read(run)) if question in check.question]
    return check


def test_the_panel_asks_whether_the_recommender_ranks_at_all(run):
    stored = metrics_of(run)
    stored["downstream"]["ORI"]["recall@10"] = {"value": 0.0004, "low": 0.0, "high": 0.0008, "n": 5}
    stored["downstream_baselines"] = {"chance": {"recall@10": 0.0041}, "popularity": {"recall@10": 0.02}}
    stored["tests"]["contrasts"] = [stored_contrast(**CLEAR), stored_contrast("net of placebo", **CLEAR)]
    (run / "metrics.json").write_text(json.dumps(stored))
    assert said(run, "better than chance").verdict == "bad"
    assert "cannot judge" in by_id(read(build(run)), "cannot-judge").text
    assert answers(RunFiles.read(run))[0].lines[0].label == "cannot tell: this recommender cannot judge"
    for recall, label in ((0.015, "better than chance, not than popularity"), (0.06, "yes")):
        stored["downstream"]["ORI"]["recall@10"] = {
            "value": recall,
            "low": recall - 0.001,
            "high": recall + 0.001,
            "n": 5,
        }
        (run / "metrics.json").write_text(json.dumps(stored))
        assert said(run, "better than chance").label == label
        assert "cannot judge" not in read(build(run)).text


@pytest.mark.parametrize(
    ("draws", "users", "chance", "knows"),
    [(1, 608, 0.001, True), (2, 608, 0.001, True), (3, 608, 0.001, False), (2, 80, 0.03, False)],
)
def test_the_interval_of_two_draws_is_no_evidence_against_a_recommender(run, draws, users, chance, knows):
    """ml-latest-small, preset quick: 0.0387 where chance is 0.001, and an interval from -0.046, for t of two draws is 12.7."""
    stored = metrics_of(run)
    wide = {"value": 0.0387, "low": -0.0459, "high": 0.1232, "n": draws}
    stored["downstream"]["ORI"] = {"recall@10": wide if draws > 1 else {**wide, "low": None, "high": None}}
    stored["downstream_baselines"] = {"chance": {"recall@10": chance}, "popularity": {"recall@10": 0.02}}
    stored["run"]["users"] = users
    (run / "metrics.json").write_text(json.dumps(stored))
    check = said(run, "better than chance")
    assert (check.verdict == "good") is knows
    assert ("0.1232" in check.sentence) is (draws == 3)
    assert ("cannot judge" in read(build(run)).text) is not knows


@pytest.mark.parametrize("draws", [2, 3])
def test_the_interval_of_two_draws_is_not_printed(run, draws):
    stored = metrics_of(run)
    for found in stored["downstream"].values():
        found["ndcg@10"] |= {"low": 0.0123, "high": 0.0987, "n": draws}
    for test in stored["tests"]["paired"]:
        test |= {"low": -0.0123, "high": 0.0987, "p": None, "p_holm": None, "n": draws}
    (run / "metrics.json").write_text(json.dumps(stored))
    page = read(build(run))
    ranking = [answer for answer in page.all("article", class_="answer") if "rank better" in answer.text]
    for part in (by_id(page, "downstream-table"), *ranking):
        assert ("0.0987" in part.text) is (draws == 3)
        assert ("too few for an interval" in part.text) is (draws == 2)
        assert "no p-value" not in part.text


def test_the_panel_asks_what_images_are_worth_to_the_recommender(run):
    assert said(run, "from images").label == "not measured"
    stored = metrics_of(run)
    test = {"b": "ORI", "metric": "ndcg@10", "p": 0.01, "n": 5, "test": "t"}
    for low, high, label in ((-0.02, -0.01, "yes"), (-0.02, 0.01, "not shown")):
        stored["tests"]["paired"] = [
            {**test, "a": name, "difference": -0.01, "low": low, "high": high}
            for name in ("SHUFFLED", "NONE")
        ]
        (run / "metrics.json").write_text(json.dumps(stored))
        assert said(run, "from images").label == label


def test_the_panel_says_that_training_moved_nothing(run):
    for rewards, verdict in (([[0, 0.5], [4, 0.4]], "bad"), ([[0, 0.5], [4, 0.6]], "good")):
        curves = {"reward, held-out users": rewards, "judge, held-out users": rewards}
        (run / "generator/rebeca/curves.json").write_text(json.dumps(curves))
        check = said(run, "move rebeca")
        assert check.verdict == verdict and ("untrained" in check.sentence) is (verdict == "bad")


def test_the_panel_says_how_far_the_judge_agrees_with_the_truth(run):
    stored = metrics_of(run)
    for value, verdict in ((0.8, "good"), (0.3, "unclear"), (0.05, "bad")):
        found = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 90}
        stored["judge_and_truth"] = {"rebeca": found}
        (run / "metrics.json").write_text(json.dumps(stored))
        assert said(run, "judge and truth").verdict == verdict


def test_the_panel_says_whether_a_vision_language_model_names_a_place(run):
    stored = metrics_of(run)
    stored["vlm"] = {"rebeca": {"against": "original", "answers": 400, "unread": 13}}
    for value, verdict in ((0.52, "good"), (0.7, "unclear"), (0.97, "bad"), (0.02, "bad")):
        lean = {"value": value, "low": value - 0.03, "high": value + 0.03, "n": 387}
        stored["creatives"]["rebeca"]["vlm_first_place"] = lean
        (run / "metrics.json").write_text(json.dumps(stored))
        check = said(run, "vision-language model")
        assert check.verdict == verdict and "13 of 400 answers could not be read" in check.sentence
    stored["creatives"]["rebeca"]["vlm_first_place"] = {"value": None, "low": None, "high": None, "n": 0}
    (run / "metrics.json").write_text(json.dumps(stored))
    assert said(run, "vision-language model").label == "too few answers to tell"
    assert "13 of 400 answers could not be read" in read(build(run)).text


def test_the_panel_says_what_the_papers_protocol_cannot_show(run):
    assert "protocol: blind" in said(run, "drawn blind").sentence
    stored = metrics_of(run)
    stored["run"]["protocol"] = "blind"
    (run / "metrics.json").write_text(json.dumps(stored))
    assert said(run, "drawn blind").verdict == "good"
