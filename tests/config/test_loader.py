"""Configurations and the settings of generators: what is shipped is valid, and reading it imports no model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recgen.config import plugins
from recgen.config.loader import load_config, shipped

pytestmark = pytest.mark.usefixtures("toy_package")


def test_checking_a_configuration_imports_no_model_and_no_recbole():
    program = """
import sys
from recgen.config.loader import load_config, plugins, shipped
for name in shipped():
    load_config(name)
for name in plugins.names(plugins.GENERATORS):
    plugins.settings_class(name, "test")
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(loaded.stdout.split())
    assert "generators.ragar.settings" in found
    assert (
        not {"torch", "recbole", "diffusers", "transformers", "pandas", "generators.ragar.generator"} & found
    )


def test_settings_are_those_of_the_generators_class():
    for name in set(plugins.names(plugins.GENERATORS)) - {"broken"}:  # that one cannot be imported
        kind = plugins.load(plugins.GENERATORS, name, "test")
        assert kind.Config is plugins.settings_class(name, "test") and kind.name == name


def test_configurations_are_shipped():
    assert {"demo", "simulated", "ml-100k-posters"} <= set(shipped())
    assert "MICRO" not in shipped(), "a model's defaults are no configuration"


def test_every_shipped_configuration_is_valid():
    for name in shipped():
        config = load_config(name)
        assert config.settings.generators == list(config.generators)
        assert Path(config.source).name == f"{name}.yaml"


def test_plugins_of_another_package_are_found():
    assert {"toy", "other", "rebeca"} <= set(plugins.names(plugins.GENERATORS))
    assert plugins.load(plugins.GENERATORS, "toy", "test").Config().strength == 0.5
