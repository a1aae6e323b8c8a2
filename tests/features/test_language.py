"""Any causal language model that transformers loads: what it writes, and what is said when there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch

from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError
from recgen.features import language
from recgen.features.language import LanguageModel, recompute_layers

prepare_torchvision()
import peft  # noqa: E402


@pytest.fixture(scope="module")
def model(tiny_llm) -> LanguageModel:
    return LanguageModel(str(tiny_llm))


PROMPTS = ["a", "a longer prompt, of some words", "the third", "x" * 60]


def test_a_batch_writes_what_each_prompt_alone_makes_it_write(model):
    together = model.complete(PROMPTS, 12)
    assert together == [model.complete([prompt], 12)[0] for prompt in PROMPTS]
    assert together == model.complete(PROMPTS[::-1], 12)[::-1]
    assert len(set(together)) > 1 and all(0 < len(text) <= 12 * 5 for text in together)


def test_long_prompts_go_in_smaller_batches(model, monkeypatch):
    sizes = []
    original = LanguageModel._continue

    def note(self, prompts, max_new_tokens):
        sizes.append([len(prompt) for prompt in prompts])
        return original(self, prompts, max_new_tokens)

    monkeypatch.setattr(LanguageModel, "_continue", note)
    whole = model.complete(PROMPTS, 6)
    monkeypatch.setattr(language, "_CHARACTERS", 70)
    assert model.complete(PROMPTS, 6) == whole and model.complete([], 6) == []
    assert sizes == [[1, 9, 30, 60], [1, 9], [30], [60]]


def test_it_writes_the_likeliest_token_each_time(model):
    import torch

    prompt = "abc"
    ids = model.tokenizer(prompt, return_tensors="pt").input_ids
    for _ in range(4):
        best = model.model(input_ids=ids).logits[0, -1].argmax()
        ids = torch.cat([ids, best.view(1, 1)], dim=1)
    expected = model.tokenizer.decode(ids[0, -4:], skip_special_tokens=True).strip()
    assert model.complete([prompt], 4) == [expected]


def test_it_is_frozen_and_of_known_width(model):
    assert model.width == 16
    assert not model.model.training and not any(p.requires_grad for p in model.model.parameters())


def test_nothing_is_read_before_it_is_used(tmp_path):
    absent = LanguageModel(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"recgen\.llm: found .*absent.*demo-llm"):
        absent.complete(["a"], 1)


def test_reading_it_draws_no_bar_of_its_own(tiny_llm):
    code = f"from recgen.features.language import LanguageModel; LanguageModel({str(tiny_llm)!r}).model"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Loading" not in done.stderr + done.stdout


def test_a_chat_model_gets_the_prompt_as_its_users_turn(tiny_llm, tmp_path, model):
    folder = tmp_path / "chat"
    shutil.copytree(tiny_llm, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert LanguageModel(str(folder)).complete(PROMPTS, 8) == model.complete(
        [f"[user]{p}[a]" for p in PROMPTS], 8
    )


def spoiled(source, folder, change):
    """Copy a model, and change its weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return LanguageModel(str(folder))


NORM = "model.layers.0.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda weights: weights[NORM].fill_(float("nan")),
            f"weight {NORM} holds values that are not finite",
        ),
        (lambda weights: weights.pop(NORM), f"no weight {NORM}"),
        (lambda weights: weights.update({NORM: weights[NORM][:7].clone()}), f"{NORM} is of the shape"),
    ],
)
def test_weights_that_are_none_are_named(tiny_llm, tmp_path, change, words):
    with pytest.raises(UserError, match=r"recgen\.llm") as caught:
        spoiled(tiny_llm, tmp_path / "spoiled", change).complete(["a"], 1)
    assert words in str(caught.value)


def test_a_models_own_code_is_not_run_and_nobody_is_asked(tiny_llm, tmp_path, monkeypatch):
    folder = tmp_path / "own"
    shutil.copytree(tiny_llm, folder)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError, match="recgen.llm"):
        _ = LanguageModel(str(folder)).model
    assert not (tmp_path / "ran").exists()


def test_a_shared_model_is_trained_beside_the_one_that_speaks(tiny_llm):
    """No weight is copied, and what the language model says does not change while two adapters of others train on it."""
    model = LanguageModel(str(tiny_llm))
    before = model.complete(["one two"], 8)
    own = {id(weight) for weight in model.model.base_model.parameters()}
    adapted = [peft.get_peft_model(model.shared(), peft.LoraConfig(r=2)) for _ in range(2)]
    ids = torch.tensor([[3, 4, 5]])
    start = model.model.base_model(ids).last_hidden_state
    for number, each in enumerate(adapted):
        frozen = {id(weight) for name, weight in each.named_parameters() if "lora_" not in name}
        assert frozen == own
        trained = [weight for name, weight in each.named_parameters() if "lora_" in name]
        assert trained and all(weight.dtype == torch.float32 and weight.requires_grad for weight in trained)
        with torch.no_grad():
            for weight in trained:
                weight.fill_(0.1 * (number + 1))
    outputs = [each(ids).last_hidden_state for each in adapted]
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[0], start)
    torch.testing.assert_close(model.model.base_model(ids).last_hidden_state, start, rtol=0, atol=0)
    assert model.complete(["one two"], 8) == before


def test_layers_that_are_computed_again_have_the_same_gradients(tiny_llm):
    ids, found, calls = torch.tensor([[3, 4, 5]]), [], []
    for again in (False, True):
        torch.manual_seed(0)
        adapted = peft.get_peft_model(LanguageModel(str(tiny_llm)).shared(), peft.LoraConfig(r=2))
        if again:
            recompute_layers(adapted)
        layer = next(module for module in adapted.modules() if type(module).__name__ == "LlamaMLP")
        layer.register_forward_pre_hook(lambda *_, again=again: calls.append(again))
        adapted(ids, use_cache=False).last_hidden_state.square().mean().backward()
        found.append(
            {name: weight.grad for name, weight in adapted.named_parameters() if weight.grad is not None}
        )
    assert found[0] and found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
    assert calls.count(False) == 1 and calls.count(True) == 2
