"""What a backbone's profile decides, what a configuration's own keys decide, and how a profile is recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.diffusion.profiles import PROFILES, profile_of, recognise

NAMES = ("taste", "ragar", "iamg", "rebeca", "t1", "ip_adapter_mean", "alone")


def folder(path: Path, kind: str, **unet) -> str:
    (path / "unet").mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    (path / "unet/config.json").write_text(json.dumps(unet))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "unet", "name"),
    [
        ("StableDiffusionPipeline", {"cross_attention_dim": 768}, "sd15"),
        ("StableDiffusionPipeline", {"cross_attention_dim": 1024}, "sd2"),
        ("StableDiffusionXLPipeline", {"cross_attention_dim": 2048}, "sdxl"),
        ("LatentConsistencyModelPipeline", {"cross_attention_dim": 768, "time_cond_proj_dim": 256}, "lcm"),
        ("StableDiffusionPipeline", {"cross_attention_dim": 128}, "demo-sd"),
    ],
)
def test_a_folder_says_what_it_is(tmp_path, kind, unet, name):
    assert recognise(folder(tmp_path / "it", kind, **unet)).name == name


def test_ids_are_known_or_taken_for_the_commonest(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert recognise("SimianLuo/LCM_Dreamshaper_v7").name == "lcm"
    assert recognise("someone/finetuned") is None and profile_of("someone/finetuned").name == "sd15"
    assert profile_of("someone/finetuned", "sdxl").name == "sdxl"
    for name in ("", "\0", "../..", "--/..", "a/b/c", "/"):
        assert profile_of(name).name == "sd15", name


def written(path: Path, **ours) -> str:
    blocks = {"alone": {"generator": "ip_adapter_mean", "prompt": "none"}, "generators": list(NAMES)}
    file = path / "it.yaml"
    file.write_text(yaml.safe_dump({"dataset": "x", "recgen": {**blocks, **ours}}))
    return str(file)


def decodes(source: str, key: str = "decode") -> dict[str, dict]:
    return {name: spec.settings.get(key) for name, spec in load_config(source).generators.items()}


def test_the_method_says_how_and_the_profile_how_strongly(tmp_path):
    sd15 = folder(tmp_path / "sd", "StableDiffusionPipeline", cross_attention_dim=768)
    found = decodes(written(tmp_path, backbone=sd15, preset="standard"))
    scales = {name: decode["ip_adapter_scale"] for name, decode in found.items()}
    assert scales == {
        "taste": 0.5, "ragar": 0.5, "t1": 0.5, "ip_adapter_mean": 0.5, "alone": 1.0, "rebeca": 1.0, "iamg": 1.0
    }  # fmt: skip
    assert {(d["steps"], d["guidance_scale"], d["batch_size"]) for d in found.values()} == {(50, 7.5, 8)}
    shipped = decodes(written(tmp_path, preset="standard"))
    assert {d["ip_adapter_scale"] for name, d in shipped.items() if name != "iamg"} == {1.0}
    assert shipped["iamg"]["ip_adapter_scale"] == 0.3 and shipped["taste"]["steps"] == 15


def test_what_is_said_wins_and_training_inherits(tmp_path):
    sdxl = folder(tmp_path / "xl", "StableDiffusionXLPipeline", cross_attention_dim=2048)
    own = {"decode": {"ip_adapter_scale": 0.7, "steps": 9}, "train_decode": {"guidance_scale": 2.0}}
    source = written(tmp_path, backbone=sdxl, ragar=own)
    decode, training = decodes(source)["ragar"], decodes(source, "train_decode")["ragar"]
    assert (decode["ip_adapter_scale"], decode["steps"], decode["guidance_scale"]) == (0.7, 9, 5.0)
    assert (training["ip_adapter_scale"], training["steps"], training["guidance_scale"]) == (0.7, 5, 2.0)
    assert decodes(source)["taste"]["guidance_scale"] == 5.0


def test_a_checkpoint_has_its_own_profile(tmp_path):
    sdxl = folder(tmp_path / "xl", "StableDiffusionXLPipeline", cross_attention_dim=2048)
    source = written(
        tmp_path, preset="standard", generators=["stable_diffusion"], stable_diffusion={"checkpoint": sdxl}
    )
    assert decodes(source)["stable_diffusion"]["guidance_scale"] == 5.0


def test_the_sampler_lcm_with_a_lora_and_without(tmp_path):
    sd15 = folder(tmp_path / "sd", "StableDiffusionPipeline", cross_attention_dim=768)
    lcm = folder(tmp_path / "lcm", "LatentConsistencyModelPipeline", time_cond_proj_dim=256)
    block = {"generators": ["taste"], "taste": {"decode": {"sampler": "lcm"}}, "preset": "standard"}
    lora = decodes(written(tmp_path, backbone=sd15, **block))["taste"]
    assert (lora["steps"], lora["guidance_scale"]) == (4, 1.0)
    distilled = decodes(written(tmp_path, backbone=lcm, **{**block, "taste": {}}))["taste"]
    assert (distilled["sampler"], distilled["steps"], distilled["guidance_scale"]) == ("lcm", 4, 8.0)
    block["taste"] = {"decode": {"sampler": "lcm", "guidance_scale": 7.5}}
    with pytest.raises(UserError, match=r"taste.decode.guidance_scale.*7.5.*1 to 2"):
        load_config(written(tmp_path, backbone=sd15, **block))


def test_every_profile_can_be_named(tmp_path):
    for name, profile in PROFILES.items():
        config = load_config(written(tmp_path, profile=name, generators=["taste"], preset="standard"))
        assert config.generators["taste"].settings["decode"]["steps"] == profile.steps


def test_former_names_of_precision(tmp_path):
    named = {given: load_config(written(tmp_path, precision=given)).settings.precision
             for given in ("bfloat16", "float16", "auto", "float32")}  # fmt: skip
    assert named == {"bfloat16": "bf16", "float16": "fp16", "auto": "auto", "float32": "float32"}
