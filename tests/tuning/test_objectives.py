"""Studies by the market's clicks and by the judge net of other users' creatives."""

from __future__ import annotations

import json

import optuna
import pandas as pd
import pytest

from recgen import tuning
from recgen.core.errors import UserError
from recgen.tuning.study import open_storage, trial_folder

MARKET = {"users": 16, "candidates": 14, "places": 5, "rounds": 1, "pages": 3, "seeds": 1}


@pytest.fixture(scope="module")
def studied(market_config, tmp_path_factory):
    """Trials of a generator that hits its user's taste always, as configured, and never."""
    folder = tmp_path_factory.mktemp("study")
    tune = {
        "space": {"ideal.accuracy": {"low": 0.0, "high": 1.0}},
        "objectives": ["market_uplift", "judge_net_of_swapped"],
    }
    truth = str(folder / "study/trials/base/dataset/simulator")
    config = market_config(
        folder, tune=tune, market=MARKET, ideal={"truth": truth, "record": str(folder / "drawn.txt")}
    )
    tuning.tune(str(config), 1, None, 1, str(folder / "study"))
    study = optuna.load_study(study_name="small", storage=open_storage(None, folder / "study", 60))
    study.enqueue_trial({"ideal.accuracy": 0.0})
    tuning.tune(str(config), 2, None, 1, str(folder / "study"))
    return folder / "study", optuna.load_study(
        study_name="small", storage=open_storage(None, folder / "study", 60)
    )


def test_the_market_tells_a_generator_that_hits_from_one_that_does_not(studied):
    root, study = studied
    hit, missed = study.trials
    assert hit.params == {"ideal.accuracy": 1.0} and missed.params == {"ideal.accuracy": 0.0}
    assert hit.values[0] > 100 > missed.values[0]
    for trial in study.trials:
        folder = trial_folder(root, trial.number)
        (effect,) = json.loads((folder / "market/summary.json").read_text())["effects"].values()
        assert list(effect["ab"]) == ["original", "ideal"] and effect["worlds"] == {}, (
            "only what the objective needs"
        )
        gained = effect["ab"]["ideal"]["clicks"]["value"] - effect["ab"]["original"]["clicks"]["value"]
        assert trial.values[0] == pytest.approx(gained) == pytest.approx(trial.user_attrs["market_uplift"])


def test_the_judge_is_net_of_other_users_creatives(studied):
    root, study = studied
    for trial in study.trials:
        own, other = (
            pd.read_parquet(trial_folder(root, trial.number) / f"evaluation/{name}.parquet")
            for name in ("ideal", "swapped.ideal")
        )
        both = own.merge(other, on=["user_id", "item_id"])
        assert len(both) == len(own)
        gap = both["standardised_gain_judge_x"] - both["standardised_gain_judge_y"]
        assert trial.values[1] == pytest.approx(gap.mean())


def test_nothing_is_retrained_and_validation_is_what_is_measured(studied):
    root, study = studied
    for trial in study.trials:
        assert not any(task.startswith("downstream") for task in trial.user_attrs["tasks"])
        assert "market" in trial.user_attrs["tasks"]
    assert study.user_attrs["winner"]["trial"] == 0
    test, trial = (
        pd.read_parquet(folder / "dataset/interactions.parquet")
        for folder in (root / "winner", trial_folder(root, 0))
    )
    assert len(trial) < len(test), "a trial's data end sooner"
    assert (root / "study.html").read_text().count("market_uplift") > 1


def test_without_swapped_creatives_there_is_nothing_to_be_net_of(market_config, tmp_path):
    tune = {"space": {"ideal.accuracy": {"low": 0.0, "high": 1.0}}, "objectives": ["judge_net_of_swapped"]}
    config = market_config(tmp_path, tune=tune, controls=[])
    with pytest.raises(UserError, match="swapped among the controls"):
        tuning.tune(str(config), 1, None, 1, str(tmp_path / "study"))
