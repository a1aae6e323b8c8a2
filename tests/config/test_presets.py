"""`recgen.preset`: what it sets, and that the YAML's own keys win."""

from __future__ import annotations

import pytest
import yaml

from recgen.config.loader import load_config


def loaded(tmp_path, ours=None, **recbole):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"dataset": "mine", **recbole, "recgen": ours or {}}))
    return load_config(str(path))


def trainings(config):
    return config.settings.ranker.settings


def test_a_minimal_yaml_on_the_shipped_models_is_quick(tmp_path):
    found = loaded(tmp_path, {"generators": ["taste", "ragar"]})
    assert found.settings.preset == "quick"
    assert trainings(found)["MICRO"]["epochs"] <= 20, "not the 1,000 of MICRO's own defaults"
    assert found.settings.requests.items * found.settings.requests.per_item <= 100
    assert found.generators["ragar"].settings["max_steps"] <= 10
    assert found.generators["taste"].settings["decode"]["steps"] <= 8


def test_other_weights_are_standard(tmp_path):
    found = loaded(tmp_path, {"backbone": "org/model"})
    assert found.settings.preset == "standard" and trainings(found) == {} and found.settings.requests is None
    assert loaded(tmp_path, {"encoder": {"model": "ViT-H-14"}}).settings.preset == "standard"


def test_own_keys_win(tmp_path):
    ours = {
        "requests": 500,
        "generators": ["ragar"],
        "ragar": {"max_steps": 9, "decode": {"steps": 11}},
        "ranker": {"settings": {"MICRO": {"epochs": 33}}},
    }
    found = loaded(tmp_path, ours)
    assert found.settings.requests == 500
    assert found.generators["ragar"].settings["max_steps"] == 9
    decode = found.generators["ragar"].settings["decode"]
    assert decode["steps"] == 11 and decode["sampler"] == "dpm++2m"
    assert trainings(found)["MICRO"]["epochs"] == 33 and trainings(found)["MICRO"]["eval_step"] == 3


def test_keys_of_all_models_win_over_a_presets_keys_of_one(tmp_path):
    found = loaded(tmp_path, epochs=77)
    assert "epochs" not in trainings(found)["MICRO"] and "epochs" not in found.settings.downstream.settings
    assert trainings(found)["MICRO"]["eval_step"] == 3


def test_only_models_of_the_run_are_set(tmp_path):
    assert set(trainings(loaded(tmp_path))) == {"MICRO", "Verifier"}
    found = loaded(tmp_path, {"ranker": {"judge": "VBPR"}, "downstream": {"model": "VBPR"}})
    assert set(trainings(found)) == {"MICRO", "VBPR", "Verifier"}


def test_other_requests_are_taken_as_they_are(tmp_path):
    found = loaded(tmp_path, {"requests": {"protocol": "paper", "users": 7}})
    assert found.settings.requests.users == 7


def test_paper_is_the_papers_protocol(tmp_path):
    found = loaded(tmp_path, {"preset": "paper", "generators": ["ragar", "pmg"]})
    assert found.settings.ranker.same_judge and found.settings.requests.protocol == "paper"
    ragar = found.generators["ragar"].settings
    assert ragar["preset"] == "paper" and ragar["clamp"] and ragar["retrieve_from"] == "history"
    assert ragar["decode"]["steps"] == 50 and found.generators["pmg"].settings["learning_rate"] == 1e-5


@pytest.mark.parametrize("name", ["quick", "standard", "paper"])
def test_every_generator_takes_its_preset(tmp_path, name):
    kinds = "ragar rebeca t0 noue stable_diffusion openjourney ip_adapter_mean taste preferred pmg iamg "
    kinds += "textual_inversion dreambooth"
    found = loaded(tmp_path, {"preset": name, "generators": kinds.split()})
    assert list(found.generators) == kinds.split()
    again = loaded(tmp_path, found.resolved()["recgen"])
    assert again.settings == found.settings and again.generators == found.generators


def test_shipped_configurations_say_their_preset():
    for name in ("demo", "simulated", "ml-100k-posters"):
        assert load_config(name).settings.preset == "standard"
    assert load_config("pog").settings.preset == "standard"
    on_demo = load_config("ml-latest", ["recgen.encoder=demo-clip", "recgen.backbone=demo-sd"])
    assert on_demo.settings.preset == "quick"
    assert on_demo.generators["ragar"].settings["decode"]["steps"] == 50, "as the YAML says"
