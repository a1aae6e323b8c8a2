"""The code behind a method: what it imports of our packages is part of it, and nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recgen.config import plugins, sources

FILES = {
    "__init__.py": "",
    "first.py": "from methods import shared\n\ndef lazy():\n    from methods.room.deep import value\n",
    "second.py": "import methods.shared\n",
    "shared.py": "import json\n",
    "room/__init__.py": "",
    "room/deep.py": "value = 1\n",
}


@pytest.fixture
def methods(tmp_path, monkeypatch) -> Path:
    """A package of two methods: both use `shared`, the first alone, in a function, `room.deep`."""
    for name, text in FILES.items():
        (tmp_path / "methods" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "methods" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sources, "_OURS", ("methods",))
    yield tmp_path / "methods"
    sources._folder.cache_clear()


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("first.py", {"first"}),
        ("second.py", {"second"}),
        ("shared.py", {"first", "second"}),
        ("room/deep.py", {"first"}),
    ],
)
def test_a_change_counts_where_it_is_used(methods, file, changed):
    before = {name: sources.code(f"methods.{name}") for name in ("first", "second")}
    (methods / file).write_text(FILES[file] + "# another line\n")
    after = {name: sources.code(f"methods.{name}") for name in before}
    assert {name for name in before if before[name] != after[name]} == changed
    assert "methods" not in sys.modules, "nothing is imported"


def test_a_ranking_models_code_is_all_that_it_uses_and_no_other_model():
    module = plugins.target(plugins.RANKING_MODELS, "MICRO").partition(":")[0]
    found = set(sources._reached(module))
    assert {module, "ranking_models.trainer", "ranking_models.what_if.graph", "ranking_models.base"} <= found
    assert not {"ranking_models.vbpr", "ranking_models.verifier"} & found


def test_what_is_not_installed_is_absent():
    assert sources.code("no_such_package.module") == "absent"
