"""The tasks of a run and what each of them follows from."""

from __future__ import annotations

import shutil

from recgen.config.loader import load_config
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


def test_same_judge_trains_one_model(write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path, ranker={"same_judge": True}))), tmp_path / "run")
    names = [task.name for task in pipeline.tasks(run)]
    assert "ranker/judge" in names and "ranker/reward" not in names and run.resolve_role("reward") == "judge"


def test_fingerprints_follow_what_a_task_reads(write_config, tmp_path):
    def prints(*overrides: str) -> dict[str, str]:
        run = RunContext(load_config(str(write_config(tmp_path)), overrides), tmp_path / "run")
        return pipeline.fingerprints(pipeline.tasks(run), run.settings.seed)

    def changed(*overrides: str) -> set[str]:
        after = prints(*overrides)
        return {name for name in after if after[name] != before[name]}

    before = prints()
    assert prints() == before
    assert changed("recgen.gallery=3") == {"report"}
    arms = ("creatives/toy", "toy", "swapped.toy", "dealt.toy", "reranked")
    drawn_again = {f"downstream/{arm}/{turn}" for arm in arms for turn in (0, 1)}
    drawn_again |= {
        "generate/toy",
        "generate",
        "gate/toy",
        "evaluate/toy",
        "evaluate",
        "downstream",
        "report",
    }
    assert changed("recgen.toy.strength=0.1") == drawn_again  # only drawing reads it
    assert changed("recgen.toy.brightness=0.1") == drawn_again | {"generator.fit/toy"}
    assert changed("recgen.precision=bfloat16") == drawn_again | {"generator.fit/toy"}
    assert {"dataset", "features"} & changed("learning_rate=0.1") == set()
    assert "ranker/judge" in changed("learning_rate=0.1")
    assert changed("recgen.seed=2") == set(before)


def test_fingerprints_follow_the_files(dataset, write_config, tmp_path):
    shutil.copytree(dataset, tmp_path / "data/tiny")
    run = RunContext(
        load_config(str(write_config(tmp_path)), [f"data_path={tmp_path / 'data'}"]), tmp_path / "run"
    )
    before = pipeline.fingerprints(pipeline.tasks(run), 1)["dataset"]
    with (tmp_path / "data/tiny/tiny.item").open("a") as file:
        file.write("i99\tnew\twar film\n")
    assert pipeline.fingerprints(pipeline.tasks(run), 1)["dataset"] != before
