"""Likes that are held out of what generators and the reward see, and the metrics that are measured on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recgen import api
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import TrainingTask, training_task, unseen_encounters

BLIND = {"protocol": "blind", "items": 5, "per_item": 3, "held_out": 0.5}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> Path:
    folder = tmp_path_factory.mktemp("held")
    write_config(folder, requests=BLIND, controls=["swapped"])
    api.run(str(folder / "tiny.yaml"), str(folder / "run"), (), until="evaluate")
    return folder


def context(folder: Path, *changes: str) -> RunContext:
    return RunContext(load_config(str(folder / "tiny.yaml"), changes), folder / "run")


def pairs(run: RunContext, role: str) -> set[tuple[str, str]]:
    """Return the training interactions of a role's model, as tokens."""
    task = training_task(run, role)
    keep = [True] * len(task.parts.train.inter_feat) if task.keep is None else task.keep.tolist()
    return {pair for pair, kept in zip(tokens(task, task.parts.train), keep, strict=True) if kept}


def tokens(task: TrainingTask, part: Any) -> list[tuple[str, str]]:
    """Return a part's interactions, as tokens."""
    rows, whole = part.inter_feat, task.parts.whole
    users = whole.id2token("user_id", rows["user_id"].numpy())
    items = whole.id2token("item_id", rows["item_id"].numpy())
    return [(str(user), str(item)) for user, item in zip(users, items, strict=True)]


def test_generators_and_reward_see_none_of_it(finished):
    run = context(finished)
    held = set(run.held_out)
    data = run.data
    seen = {
        (data.user_ids[user], data.item_ids[item])
        for user, item in zip(data.interactions["user"], data.interactions["item"], strict=True)
    }
    assert len(held) > 10 and not seen & held
    assert not any((request.user_id, item) in held for request in run.requests for item in request.history)
    assert not pairs(run, "reward") & held
    assert not set(unseen_encounters(run, "reward").set_index(["user_id", "item_id"]).index) & held
    assert pairs(run, "judge") & held and pairs(run, "verifier") & held


def test_neither_does_it_choose_the_rewards_epoch(finished):
    run = context(finished)
    held, (reward, judge) = set(run.held_out), (training_task(run, role) for role in ("reward", "judge"))
    by_judge, by_reward = (set(tokens(task, task.parts.valid)) for task in (judge, reward))
    assert by_judge & held and by_reward == by_judge - held


def test_metrics_are_measured_on_it(finished):
    metrics = json.loads((finished / "run/metrics.json").read_text())
    measured = metrics["creatives"]["toy"]
    for key in ("cps_held_out", "cpis_held_out"):
        assert measured[key]["n"] == 15 and key not in metrics["unavailable"]
    assert measured["cpis_held_out"]["value"] != measured["cpis"]["value"]
    table = pd.read_parquet(finished / "run/per_request.parquet")
    assert table["topic_precision_content"].isin([0, 1]).all()
    assert any(test["metric"] == "cpis_held_out" for test in metrics["tests"]["contrasts"])


def test_another_choice_of_requests_fits_anew_only_where_it_takes_likes_away(finished):
    changed = []
    for share in (0.5, 0.0):
        one, two = (
            pipeline.fingerprints(pipeline.tasks(run), 1)
            for items in (5, 6)
            for run in [
                context(finished, f"recgen.requests.items={items}", f"recgen.requests.held_out={share}")
            ]
        )
        changed.append(
            {
                name
                for name in ("ranker/reward", "ranker/verifier", "generator.fit/toy")
                if one[name] != two[name]
            }
        )
    assert changed == [{"ranker/reward", "generator.fit/toy"}, set()]


def test_a_new_request_of_a_user_reads_no_held_out_like(finished):
    run = api.open(str(finished / "run"))
    request = run.requests[0]
    other = next(item for item in run.context.data.item_ids if item != request.item_id)
    made = run._new_request(request.user_id, other)
    assert made.history and not {(made.user_id, item) for item in made.history} & set(run.context.held_out)


def test_without_it_the_metrics_say_what_they_need(finished):
    from recgen.stages.evaluate import _unavailable

    reasons = _unavailable(context(finished, "recgen.requests.held_out=0"), {})
    assert "recgen.requests.held_out" in reasons["cpis_held_out"]


def test_a_reward_that_is_the_judge_cannot_have_it(write_config, tmp_path):
    path = write_config(tmp_path, requests=BLIND, ranker={"same_judge": True})
    with pytest.raises(UserError, match=r"recgen\.requests\.held_out: found 0\.5 with same_judge"):
        load_config(str(path), ())
