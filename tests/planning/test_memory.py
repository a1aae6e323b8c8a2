"""The planned memory against what torch's allocator hands out on the small models; whether the published ones fit their cards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from experiments.memory import measure
from recgen.config.loader import load_config
from recgen.config.schema import OpenClip
from recgen.diffusion.backbone import Backbone, load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.economy import Memory
from recgen.diffusion.sampling import Sampling
from recgen.planning import activations, memory
from recgen.planning.memory import TaskMemory
from recgen.planning.networks import (
    SD15,
    adapter_parameters,
    encoder_file,
    file_parameters,
    language_network,
    parameters,
    pipeline_file,
)
from recgen.planning.sizes import Sizes

EXPERIMENT = Path(measure.__file__).parent
SIZES = Sizes(users=1_000, items=16_000, interactions=60_000, likes=60_000, requests=500)
METHODS = "recgen.generators=[taste, ragar, iamg, pmg, textual_inversion, dreambooth, rebeca, stable_diffusion, ip_adapter_mean]"
XL = (
    "recgen.backbone=stabilityai/stable-diffusion-xl-base-1.0",
    METHODS.replace("textual_inversion, ", ""),
)


def test_every_task_takes_what_is_planned():
    """Of every generator on the small models: within a tenth of what a trace of torch's allocator found."""
    recorded = json.loads((EXPERIMENT / "measured.json").read_text())
    planned = measure.planned(Sizes(**recorded["sizes"]))
    assert planned.keys() >= recorded["tasks"].keys() and len(recorded["tasks"]) == 18
    ratios = {name: 1024 * planned[name] / task["measured"] for name, task in recorded["tasks"].items()}
    assert {name: round(ratio, 3) for name, ratio in ratios.items() if not 0.9 < ratio < 1.1} == {}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("demo-sd")


@pytest.mark.parametrize("images", [8, 24])
def test_drawing_takes_what_is_planned(backbone, images):
    conditions = [Condition(n, "a star") for n in range(images)]
    backbone.embed_prompts(["a star", ""])
    sampling = Sampling(steps=2, guidance_scale=3.0)
    found = measure.allocated(lambda: list(backbone.generate(conditions, sampling)))
    assert found * 1024 == pytest.approx(2 * images * activations.DEMO.sample * 2, rel=0.1)


@pytest.mark.parametrize("recomputed", [False, True])
def test_training_takes_what_is_planned(recomputed):
    backbone = load_backbone("demo-sd", memory=Memory(gradient_checkpointing=recomputed))
    condition = torch.randn(16, 77, 128, requires_grad=True)

    def train() -> None:
        predicted = backbone.predict(torch.randn(16, 4, 16, 16), torch.full((16,), 5), condition)
        torch.autograd.grad(predicted.square().mean(), [condition])

    row = activations.DEMO.recomputed if recomputed else activations.DEMO.train
    assert measure.allocated(train) * 1024 == pytest.approx(16 * row * 2, rel=0.1)


def planned(*overrides: str, card: float | None = None) -> dict[str, TaskMemory]:
    found = memory.tasks(load_config("pog", overrides), SIZES, True, card and card * 1e9 / 2**30)
    return {task.task: task for task in found}


@pytest.mark.parametrize(("overrides", "card"), [((METHODS,), 24), (XL, 40)])
def test_every_generator_fits_its_card(overrides, card):
    """Stable Diffusion 1.5, ViT-H-14 and a language model of 7B on 24 GB; Stable Diffusion XL in its place on 40 GB."""
    found = planned(*overrides, card=card)
    assert {name.partition("/")[0] for name in found} == {"features", "generator.fit", "generate"}
    assert {name: round(task.gib, 1) for name, task in found.items() if task.gib * 2**30 > card * 1e9} == {}
    assert found["generator.fit/ragar"].gib > 15, "the language model is counted"


def test_what_does_not_fit_is_halved_and_no_further():
    wide, tight, none = (
        planned("recgen.generators=[pmg]", card=card)["generator.fit/pmg"] for card in (None, 20, 1)
    )
    assert wide.halved == 0 and "16 rows trained" in str(wide.items)
    assert 0 < tight.halved < 4 and tight.gib < 20e9 / 2**30 < wide.gib
    assert "1 images in the VAE" in str(none.items), (
        "more than a single row of training, which is as far as it is halved"
    )
    assert 10 < none.gib < tight.gib


def test_on_a_cpu_each_network_is_read_beside_its_file_after_those_before_it():
    """The pipeline, then the encoder, both published in float32, then a language model of two bytes a number."""
    config = load_config("pog", ["recgen.generators=[pmg, stable_diffusion]", "recgen.precision=bf16"])
    found = {task.task: task for task in memory.tasks(config, SIZES, on_gpu=False)}

    def sizes(task: str) -> dict[str, float]:
        return {item.what.partition(" ")[0]: item.gib * 2**30 / 1e6 for item in found[task].items}

    without, whole = sizes("generator.fit/stable_diffusion"), sizes("generator.fit/pmg")
    assert without["the"] == without["encoder"] == pytest.approx(4 * 986), "its file is as large as it is"
    assert "language" not in without and without["backbone"] == pytest.approx(2 * (860 + 84 + 123))
    assert whole["the"] == pytest.approx(2 * 7_000) and whole["language"] == pytest.approx(4 * 7_000)
    assert {"backbone", "encoder"} < whole.keys() and "the" not in sizes("generate/pmg")
    on_gpu = memory.tasks(config, SIZES, on_gpu=True)
    assert not any("file" in item.what for task in on_gpu for item in task.items)


def test_files_that_are_here_are_counted_by_their_bytes(tmp_path):
    for name, numbers in (("unet", 400), ("vae", 100), ("text_encoder", 200)):
        (tmp_path / name).mkdir()
        save_file({"a": np.zeros(numbers, np.float16)}, tmp_path / name / "model.safetensors")
    file = tmp_path / "unet/model.safetensors"
    assert 800 < pipeline_file(str(tmp_path), SD15) == file.stat().st_size < 1_000
    assert encoder_file(OpenClip(model="ViT-H-14", pretrained=str(file))) == file.stat().st_size
    assert encoder_file(OpenClip(model="ViT-H-14", pretrained="laion2b_s32b_b79k")) == 4 * 986e6
    assert pipeline_file("stable-diffusion-v1-5/stable-diffusion-v1-5", SD15) == 4 * SD15.unet


def test_precision_and_recomputed_activations_count():
    def fit(*overrides: str) -> float:
        return planned("recgen.generators=[pmg]", *overrides)["generator.fit/pmg"].gib

    assert fit("recgen.precision=float32") > fit() == fit("recgen.precision=bf16")
    assert fit("recgen.memory.gradient_checkpointing=false") > fit()


def test_weights_are_counted_from_the_headers_of_files(tmp_path):
    tensors = {"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}
    save_file(tensors, tmp_path / "x.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 3, "hidden_size": 7}')
    assert file_parameters(str(tmp_path / "x.safetensors")) == 17 == parameters(tmp_path)
    assert file_parameters(str(tmp_path / "absent.safetensors")) == 0
    found = language_network(str(tmp_path))
    assert (found.parameters, found.layers, found.width) == (17, 3, 7)
    assert adapter_parameters(str(tmp_path / "x.safetensors"), SD15) == 17
    assert adapter_parameters("h94/IP-Adapter/models/ip-adapter_sd15.safetensors", SD15) == SD15.adapter


def test_activations_are_those_of_the_trace():
    traced = json.loads((EXPERIMENT / "result.json").read_text())
    for name, known in (("demo-sd", "DEMO"), ("sd15", "SD15"), ("sd2", "SD2"), ("sdxl", "SDXL")):
        found = getattr(activations, known)
        assert list(vars(found).values()) == list(traced[name].values()), name
    assert traced["ViT-H-14"]["images"] == activations.VIT_H
    assert traced["Llama-2-7b"] == activations.LANGUAGE
