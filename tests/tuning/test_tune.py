"""Whole studies on the tiny data set: what trials do and leave, the winner, the report, workers that are killed."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import yaml
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from recgen import api as session
from recgen import tuning
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.tuning.study import counted, open_storage, trial_folder

CFG, K = "tunable.decode.guidance_scale", "tunable.k"


def _study(root: Path, url: str | None = None, name: str = "tiny") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(url, root, 60))


@pytest.fixture(scope="module")
def config(configure):
    return configure({})


DRAWN = ["downstream/creatives/tunable/0", "downstream/tunable/0", "downstream/swapped.tunable/0"]
"""What a trial does beside fitting its generator: it draws, and retrains with what it drew."""


@pytest.fixture(scope="module")
def studied(config, tmp_path_factory):
    """Three trials and the winner; then three more: only the CFG scale changed, all as at first, and one that cannot be."""
    root = tmp_path_factory.mktemp("study") / "s"
    tuning.tune(config, 3, None, 1, str(root))
    study = _study(root)
    for values in ({CFG: 2.0, K: 5}, {CFG: 3.0, K: 5}, {CFG: 7.5, K: 99}):
        study.enqueue_trial(values)
    tuning.tune(config, 6, None, 1, str(root))
    return root


def _log(root: Path, number: int) -> str:
    return (trial_folder(root, number) / "log.txt").read_text()


def test_a_trial_that_changes_only_the_cfg_scale_reruns_nothing_before_generate(studied):
    """Its log: everything up to generator.fit is taken over, by hard links; images and the retraining are its own."""
    taken = re.findall(r"recgen INFO (\S+): taken from", _log(studied, 3))
    done = re.findall(r"recgen INFO (\S+): [\d.]+ s$", _log(studied, 3), re.MULTILINE)
    assert done == DRAWN
    shared = ["dataset", "dataset/requests", "features", "ranker/reward", "ranker/judge"]
    before = ["downstream/ORI/0", "downstream/NONE/0", "downstream/draws/0", "downstream/slates/0"]
    assert sorted(taken) == sorted([*shared, "generator.fit/tunable", *before])
    assert _study(studied).trials[3].user_attrs["tasks"] == done
    for name in ("generator/tunable/mean.json", "ranker/judge/model.safetensors", "dataset/items.parquet"):
        assert (trial_folder(studied, 3) / name).samefile(trial_folder(studied, 0) / name)
    for trial in (1, 2):  # k changed
        assert "generator.fit/tunable" in _study(studied).trials[trial].user_attrs["tasks"]
        assert "ranker/judge" not in _study(studied).trials[trial].user_attrs["tasks"]


def test_a_value_that_comes_back_costs_nothing(studied):
    """Trial 4 has the values of trial 0: nothing is done, and the result is the same."""
    first, again = (_study(studied).trials[number] for number in (0, 4))
    assert again.params == first.params == {CFG: 3.0, K: 5}
    assert again.user_attrs["tasks"] == [] and again.values == first.values
    assert first.user_attrs["tasks"] == ["generator.fit/tunable", *DRAWN]


def test_a_failed_trial_is_recorded_with_its_error_and_the_study_goes_on(studied):
    """It counts, it is not done again, and its files are few."""
    failed = _study(studied).trials[5]
    assert failed.state is TrialState.FAIL and "less than or equal to 7" in failed.user_attrs["error"]
    assert "Traceback" in _log(studied, 5)
    assert len(counted(_study(studied))) == len(_study(studied).trials) == 6
    assert {path.name for path in trial_folder(studied, 5).iterdir()} <= {
        "log.txt",
        "config.yaml",
        "stages",
        ".lock",
    }


def test_only_the_winner_sees_the_test_split_and_only_once(studied, config, tmp_path):
    """Trials' references are the winner's last history items; best.yaml is the winner's configuration and `run` takes it."""
    study = _study(studied)
    claimed = study.user_attrs["winner"]["trial"]
    assert claimed < 3  # chosen when the study first ended, whatever came later
    best = load_config(str(studied / "best.yaml"))
    assert best.settings.eval_split == "test"
    assert best.generators["tunable"].settings["k"] == study.trials[claimed].params[K]
    assert (
        best.generators["tunable"].settings["decode"]["guidance_scale"] == study.trials[claimed].params[CFG]
    )
    assert yaml.safe_load((studied / "winner/config.yaml").read_text()) == best.resolved()
    winner = pd.read_parquet(studied / "winner/dataset/requests.parquet").set_index("user_id")
    for number in range(5):
        trial = pd.read_parquet(trial_folder(studied, number) / "dataset/requests.parquet").set_index(
            "user_id"
        )
        assert trial["item_id"].tolist() == [history[-1] for history in winner.loc[trial.index, "history"]]
    log = (studied / "winner/log.txt").read_text()
    assert len(re.findall(r"INFO downstream/tunable/0: [\d.]+ s\n", log)) == 1 and "Nothing to do" in log
    session.run(str(studied / "best.yaml"), str(tmp_path / "again"), (), until="dataset")
    again, first = (
        folder / "dataset/requests.parquet" for folder in (tmp_path / "again", studied / "winner")
    )
    assert again.read_bytes() == first.read_bytes()


def test_the_winner_is_chosen_on_validation(studied):
    """By what the trials measured there, and those are what the retrainings of the trial wrote."""
    study = _study(studied)
    for trial in study.trials[:5]:
        folder = trial_folder(studied, trial.number) / "downstream"
        own, swapped = (
            json.loads((folder / f"{arm}/0/results.json").read_text())
            for arm in ("tunable", "swapped.tunable")
        )
        assert trial.values == pytest.approx([own[key] - swapped[key] for key in ("recall@10", "ndcg@10")])
    first = study.trials[:3]
    values = np.array([trial.values for trial in first])
    means = ((values - values.min(axis=0)) / np.maximum(np.ptp(values, axis=0), 1e-12)).mean(axis=1).tolist()
    assert study.user_attrs["winner"]["trial"] == means.index(max(means))


def test_the_report_shows_history_front_and_trials_in_one_file(studied):
    """Every trial with its values, the failed one's error, the winner's settings beside the first ones; nothing is loaded."""
    text = (studied / "study.html").read_text()
    titles = ["History", "Pareto front", "Slice", "Timeline"]
    assert re.findall(r"<figcaption><strong>(.*?)</strong>", text) == titles
    assert text.count("<svg") == 2 + 1 + 2 + 1, (
        "a history for each objective, a slice for each of two settings"
    )
    table = text[text.index('<h2 id="trials">') :]
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    ]
    assert [int(row[0].split()[0]) for row in rows] == [0, 1, 2, 3, 4, 5]
    for row, trial in zip(rows, _study(studied).trials, strict=True):
        assert row[1] == {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}[trial.state]
        assert row[2:4] == [f"{value:.4f}".replace("-", "\u2212") for value in trial.values or ()] or (
            row[2:4] == ["–", "–"] and not trial.values
        )
    assert "less than or equal to 7" in text and 'href="winner/report.html"' in text
    assert (studied / "winner/report.html").exists()
    assert not re.search(r'(?:src|href)="(?!#|data:|winner/)', text)
    assert "optuna-dashboard" in text


def test_a_study_goes_on_with_the_settings_it_was_begun_with_only(studied, config):
    """Trials of different settings cannot be compared; how many files are kept may change."""
    with pytest.raises(UserError, match=r"another learning_rate"):
        tuning.tune(config, 6, None, 1, str(studied), ["learning_rate=0.5"])
    before = len(_study(studied).trials)
    tuning.tune(config, 6, None, 1, str(studied), ["recgen.tune.keep=1"])
    assert len(_study(studied).trials) == before
    full = [
        number for number in range(6) if (trial_folder(studied, number) / "downstream/creatives").exists()
    ]
    assert len(full) == 1 and (trial_folder(studied, 1) / "downstream/tunable/0/results.json").exists()


def _search(config: str, trials: int, url: str | None, workers: int, root: Path) -> None:
    """Do what `recgen tune` does before the winner's run."""
    root.mkdir(exist_ok=True)
    context = tuning._context(root, load_config(config, ["recgen.tune.heartbeat=1"]), workers)
    storage = open_storage(url, root, 1)
    tuning._opened(context, storage, "tiny")
    tuning.prepare(context)
    tuning._work(context, storage, "tiny", url, trials, workers)


def _wait_for(found, seconds: float = 300.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.1)
    raise TimeoutError


def _at_work(root: Path, storage: BaseStorage, workers: int) -> list[int]:
    """Return the processes of so many workers that have begun to draw, or nothing."""
    try:
        running = optuna.load_study(study_name="tiny", storage=storage).get_trials(
            states=(TrialState.RUNNING,)
        )
    except KeyError:  # the study is not there yet
        return []
    folders = [trial_folder(root, trial.number) for trial in running]
    drawing = all((folder / "stages/downstream.creatives.tunable.0.started").exists() for folder in folders)
    found = [
        int(trial.user_attrs["worker"].partition(":")[2]) for trial in running if "worker" in trial.user_attrs
    ]
    return found if len(found) == workers and drawing else []


@pytest.mark.parametrize(
    ("keeper", "workers"), [("journal", 1), pytest.param("postgres", 2, marks=pytest.mark.slow)]
)
def test_a_killed_worker_loses_no_trial(keeper, workers, config, studied, tmp_path, monkeypatch, request):
    """Killed while drawing: one worker of one, then the command again; one of two on PostgreSQL, and the other does it."""
    url = request.getfixturevalue("postgres") if keeper == "postgres" else None
    root, gate = tmp_path / "s", tmp_path / "gate"
    gate.touch()
    monkeypatch.setenv("TUNABLE_GATE", str(gate))
    process = multiprocessing.get_context("fork").Process(
        target=_search, args=(config, 3, url, workers, root)
    )
    process.start()
    storage = open_storage(url, root, 60)
    victims = _wait_for(lambda: _at_work(root, storage, workers))
    os.kill(victims[0], signal.SIGKILL)
    if workers == 1:
        process.join()
        gate.unlink()
        _search(config, 3, url, workers, root)
    else:
        gate.unlink()
        process.join()
        assert process.exitcode == 0
    study = _study(root, url)
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    lost = [trial for trial in study.trials if trial.state is TrialState.FAIL]
    assert len(complete) == 3 and len(lost) == 1 and len(study.trials) == 4
    again = next(trial for trial in complete if trial.system_attrs.get("retry_history"))
    assert again.params == lost[0].params and again.system_attrs["retry_history"] == [lost[0].number]
    assert again.user_attrs["tasks"] == DRAWN  # what was finished is not done again
    if workers == 1:  # the same as without the kill
        undisturbed = _study(studied).trials[:3]
        assert [(trial.params, trial.values) for trial in complete] == [
            (trial.params, trial.values) for trial in undisturbed
        ]
    _opens_in_the_dashboard(url or str(root / "journal.log"), 4)


@pytest.mark.slow
def test_workers_end_with_what_started_them(config, tmp_path, monkeypatch):
    """Killed or interrupted, it leaves no worker behind that goes on with the study."""
    root, gate, victims = tmp_path / "s", tmp_path / "gate", set()
    gate.touch()
    monkeypatch.setenv("TUNABLE_GATE", str(gate))
    for number in (signal.SIGKILL, signal.SIGINT):
        process = multiprocessing.get_context("fork").Process(target=_search, args=(config, 3, None, 2, root))
        process.start()
        storage, before = open_storage(None, root, 60), frozenset(victims)
        victims = _wait_for(lambda: set(_at_work(root, storage, 2)) - before)  # noqa: B023
        os.kill(process.pid, number)
        process.join()
        _wait_for(lambda: all(map(_gone, victims)), 30)  # noqa: B023


def _gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_full_disk_costs_no_trial(config, tmp_path, monkeypatch):
    """No trial can be blamed for it, and all that are left would fail one after the other."""
    context, storage = tuning._context(tmp_path, load_config(config), 1), open_storage(None, tmp_path, 60)
    study = tuning._opened(context, storage, "tiny")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/a/b")

    monkeypatch.setattr("recgen.tuning.trial._measure", full)
    with pytest.raises(UserError, match="no space left on device"):
        tuning.work(context, storage, "tiny", 2)
    assert len(study.trials) == 1
    monkeypatch.setattr("recgen.tuning.trial._measure", lambda *_: [0.1, 0.2])
    tuning.work(context, storage, "tiny", 2)
    assert [trial.values for trial in counted(study)] == [[0.1, 0.2]] * 2


def test_the_winners_run_compares_what_the_configuration_says(configure, tmp_path):
    """A trial measures the generators that are tuned, and no others."""
    downstream = {"seeds": 1, "items": 3, "generators": ["toy"]}
    config = configure({"generators": ["tunable"]}, generators=["tunable", "toy"], downstream=downstream)
    context = tuning._context(tmp_path, load_config(config), 1)
    trial, winner = context.measured({K: 3}).settings, context.variant({K: 3}, "test").settings
    assert (trial.generators, trial.downstream.generators) == (["tunable"], None)
    assert (winner.generators, winner.downstream.generators) == (["tunable", "toy"], ["toy"])
    assert (trial.eval_split, winner.eval_split) == ("validation", "test")


def _opens_in_the_dashboard(storage: str, trials: int) -> None:
    """Start the real dashboard on a study's storage and read its page and its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [program, storage, "--port", str(port), "--host", "127.0.0.1"], stderr=subprocess.DEVNULL
    )

    def read(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    try:
        studies = json.loads(_wait_for(lambda: read("api/studies"), 60))["study_summaries"]
        assert [study["study_name"] for study in studies] == ["tiny"]
        assert [direction.lower() for direction in studies[0]["directions"]] == ["maximize", "maximize"]
        details = json.loads(read(f"api/studies/{studies[0]['study_id']}"))
        assert len(details["trials"]) == trials
        assert "<html" in read("dashboard").lower()
    finally:
        server.terminate()
        server.wait(10)


def test_a_trial_that_looks_bad_after_a_seed_is_pruned(configure, tmp_path):
    """One objective, two seeds: pruned are exactly those below the median of the earlier ones; their later seeds are not run."""
    config = configure(
        {"objectives": {"recall@10": 0.5, "ndcg@10": 0.5}, "measure": "reranked", "startup_trials": 2},
        downstream={"seeds": 2, "items": 0, "rerank": {"users": 6, "negatives": 10}},
    )
    root = tmp_path / "s"
    _search(config, 4, None, 1, root)
    trials = _study(root).trials
    for at, trial in enumerate(trials):
        earlier = [each.intermediate_values[0] for each in trials[:at]]
        bad = bool(earlier) and trial.intermediate_values[0] < pd.Series(earlier).median()
        assert (trial.state is TrialState.PRUNED and 1 not in trial.intermediate_values) == bad
        results = trial_folder(root, trial.number) / "downstream/reranked"
        steps = [
            pd.read_parquet(results / f"{seed}.parquet").groupby("source")[["recall@10", "ndcg@10"]].mean()
            for seed in trial.intermediate_values
        ]
        sums = [float((step.loc["tunable"] - step.loc["swapped.tunable"]).mean()) for step in steps]
        assert trial.intermediate_values == pytest.approx(
            {0: sums[0], **({1: sum(sums) / 2} if len(sums) > 1 else {})}
        )
        assert (results / "1.parquet").exists() == (1 in trial.intermediate_values)
        pruned = trial.state is TrialState.PRUNED  # what another trial may take over stays, its images do not
        assert (trial_folder(root, trial.number) / "downstream/creatives").exists() != pruned
        assert (trial_folder(root, trial.number) / "generator/tunable/mean.json").exists()
    assert TrialState.PRUNED in [trial.state for trial in trials]
    assert TrialState.COMPLETE in [trial.state for trial in trials]
