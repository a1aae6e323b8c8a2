"""`ip_adapter` is a setting, the adapter's file, and a generator: one key says either, or both."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from recgen.config.loader import load_config
from recgen.core.errors import UserError


def loaded(tmp_path: Path, ours: dict, *overrides: str):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"dataset": "ml-100k", "recgen": ours}))
    return load_config(str(path), overrides)


USED = {"generators": ["ip_adapter"]}


@pytest.mark.parametrize(
    "given, adapter, prompt",
    [
        ({}, "demo-ip-adapter", "text"),
        ({"ip_adapter": "mine.safetensors"}, "mine.safetensors", "text"),
        ({"ip_adapter": None}, None, "text"),
        ({"ip_adapter": {"prompt": "none"}}, "demo-ip-adapter", "none"),
        ({"ip_adapter": {"ip_adapter": "mine.safetensors", "prompt": "none"}}, "mine.safetensors", "none"),
        ({"ip_adapter": {"ip_adapter": None}}, None, "text"),
    ],
)
def test_one_key_is_read_as_what_it_holds(tmp_path, given, adapter, prompt):
    config = loaded(tmp_path, {**USED, **given})
    assert config.settings.ip_adapter == adapter and config.generators["ip_adapter"]["prompt"] == prompt
    assert "ip_adapter" not in config.generators["ip_adapter"]


@pytest.mark.parametrize(
    "given", [{}, {"ip_adapter": None}, {"ip_adapter": {"ip_adapter": "a.safetensors", "prompt": "none"}}]
)
def test_the_resolved_configuration_reads_back(tmp_path, given):
    config = loaded(tmp_path, {**USED, **given})
    again = loaded(tmp_path, config.resolved()["recgen"])
    assert again.settings == config.settings and again.generators == config.generators


def test_overrides_reach_both(tmp_path):
    config = loaded(tmp_path, {**USED, "ip_adapter": "mine.safetensors"}, "recgen.ip_adapter.prompt=none")
    assert (
        config.settings.ip_adapter == "mine.safetensors"
        and config.generators["ip_adapter"]["prompt"] == "none"
    )
    config = loaded(tmp_path, USED, "recgen.ip_adapter.prompt=none", "recgen.ip_adapter.ip_adapter=null")
    assert config.settings.ip_adapter is None and config.generators["ip_adapter"]["prompt"] == "none"


def test_the_setting_is_there_without_the_generator(tmp_path):
    config = loaded(tmp_path, {"generators": ["stable_diffusion"], "ip_adapter": "mine.safetensors"})
    assert (
        config.settings.ip_adapter == "mine.safetensors"
        and config.resolved()["recgen"]["ip_adapter"] == "mine.safetensors"
    )


@pytest.mark.parametrize(
    "wrong", [{"ip_adapter": 5}, {"ip_adapter": {"ip_adapter": 5}}, {"ip_adapter": {"promt": "none"}}]
)
def test_mistakes_name_the_key(tmp_path, wrong):
    with pytest.raises(UserError, match=r"recgen\.ip_adapter"):
        loaded(tmp_path, {**USED, **wrong})
