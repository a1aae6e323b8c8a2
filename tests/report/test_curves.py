"""The training curves: what shares a panel, what it is drawn against, and what the words say of it."""

import json
import re

import pytest
from report_page import read
from report_run import make_run

from recgen.report import build, curves
from recgen.report.run_files import RunFiles

RAGAR = {
    "reward, training": [[step, -0.5 + step / 100] for step in range(1, 41)],
    "calibrator loss": [[1, 3.0], [40, 1.0]],
    "reward, held-out users": [[0, -0.40], [20, 0.10], [40, 0.05]],
    "semantic loss": [[1, 2.0], [40, 1.5]],
    "judge, held-out users": [[0, 5.0], [20, 5.3], [40, 5.1]],
    "rank loss": [[1, 0.2], [40, -0.1]],
}


@pytest.fixture
def run(tmp_path):
    """A run of ragar and pmg with the curves they write."""
    folder = make_run(tmp_path / "run", ("ragar", "pmg"))
    (folder / "generator/ragar/curves.json").write_text(json.dumps(RAGAR))
    pmg = {"denoising loss, training": [[1, 1.0], [2, 0.9]], "denoising loss, held-out users": [[2, 0.95]]}
    (folder / "generator/pmg/curves.json").write_text(json.dumps(pmg))
    return folder


def of(run, who):
    return [panel for panel in curves.found(RunFiles.read(run)) if panel.who == who]


def test_reward_and_judge_share_a_panel_and_each_loss_has_its_own(run):
    panels = of(run, "ragar")
    assert [panel.title for panel in panels] == [
        "ragar, reward and judge",
        "ragar, calibrator loss",
        "ragar, semantic loss",
        "ragar, rank loss",
    ]
    assert set(panels[0].series) == {"reward, training", "reward, held-out users", "judge, held-out users"}
    (loss,) = of(run, "pmg")
    assert loss.title == "pmg, denoising loss" and len(loss.series) == 2 and not loss.compares
    assert [panel.title for panel in of(run, "ranker: judge")] == [
        "ranker: judge, loss",
        "ranker: judge, valid ndcg@10",
    ]


def test_two_models_scores_are_drawn_from_their_own_start(run):
    panel = of(run, "ragar")[0]
    assert panel.compares
    starts = [
        panel.start(name) for name in ("reward, training", "reward, held-out users", "judge, held-out users")
    ]
    assert starts == [-0.40, -0.40, 5.0]
    assert of(run, "ragar")[1].start("calibrator loss") == 0


def test_a_reward_without_a_judge_is_drawn_as_it_is(run):
    (run / "generator/ragar/curves.json").write_text(
        json.dumps({"reward, held-out users": [[0, -0.4], [5, 0.2]]})
    )
    (panel,) = of(run, "ragar")
    assert panel.title == "ragar, reward, held-out users" and panel.start("reward, held-out users") == 0


def drawn(run):
    """The training plot's caption, its description, and the words in its drawings."""
    page = read(build(run))
    (figure,) = (figure for figure in page.all("figure") if figure.text.startswith("Training"))
    return figure.all("figcaption")[0].text, figure.all("div", role="img")[0]


def test_the_page_shows_them_with_a_legend_and_says_what_they_mean(run):
    caption, drawing = drawn(run)
    assert "never from the judge" in caption and "quirks" in caption and "coincide" not in caption
    panels = [svg.text for svg in drawing.all("svg")]
    (shared,) = (words for words in panels if "reward and judge" in words)
    for name in (
        "reward, training",
        "reward, held-out users",
        "judge, held-out users",
        "change since the start",
    ):
        assert name in shared
    words = drawing.attributes["aria-label"]
    assert "judge, held-out users from 5.0000 to 5.1000" in words
    assert re.search(r"held-out users from −0.4000 to 0.0500.*best reward 0.1000 at step 20", words)


def test_with_one_model_in_both_roles_the_curves_are_not_passed_off_as_evidence(run):
    stored = json.loads((run / "metrics.json").read_text())
    stored["run"]["same_judge"] = True
    (run / "metrics.json").write_text(json.dumps(stored))
    caption, _ = drawn(run)
    assert "coincide whatever was learned" in caption and "quirks" not in caption


def test_losses_alone_have_the_short_caption(tmp_path):
    caption, _ = drawn(make_run(tmp_path / "run"))
    assert caption == "Training Losses and validation scores."
