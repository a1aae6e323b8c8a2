"""The shape of the house: what may import what, read from the sources, lazy and type-only imports included."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("recgen", "generators", "ranking_models")
LIBRARIES = ("core", "config", "data", "features", "diffusion", "metrics")
ABOVE = ("recgen.pipeline", "recgen.stages", "recgen.api")


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str) -> set[str]:
    """Return the modules of this repository that a module imports anywhere in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known.keys()) or {str(node.module)}
            found |= {str(node.module)} if not inner <= known.keys() else set()
    return {each for each in found & known.keys() if each != name}


@cache
def graph() -> dict[str, set[str]]:
    return {name: imported(name) for name in modules()}


def reachable(start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph()[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def circles() -> list[set[str]]:
    """Return the groups of modules each of which imports, over others, every other one of the group."""
    behind = {name: reachable(name) for name in graph()}
    found: list[set[str]] = []
    for name in graph():
        if name in behind[name] and not any(name in group for group in found):
            found.append({other for other in behind[name] if name in behind[other]})
    return found


@pytest.mark.parametrize("room", LIBRARIES)
def test_libraries_know_no_runs(room):
    wrong = {
        (name, target)
        for name, targets in graph().items()
        if name == f"recgen.{room}" or name.startswith(f"recgen.{room}.")
        for target in targets
        if any(target == above or target.startswith(f"{above}.") for above in ABOVE)
    }
    assert not wrong, sorted(wrong)


def test_the_pipeline_knows_no_stage():
    """It calls them by name: what a run does next is decided without torch and RecBole."""
    wrong = {
        (name, target)
        for name, targets in graph().items()
        if name.startswith("recgen.pipeline.")
        for target in targets
        if target.startswith("recgen.stages")
    }
    assert not wrong, sorted(wrong)


def test_few_modules_lie_outside_of_a_room():
    assert len(list((ROOT / "recgen").glob("*.py"))) <= 8


def test_no_import_circles():
    assert not circles(), [sorted(group) for group in circles()]


def test_the_walk_sees_lazy_and_type_only_imports():
    assert "recgen.features.captioner" in graph()["recgen.stages.features"], "inside a function"
    assert "recgen.pipeline.context" in graph()["recgen.stages.features"], "under TYPE_CHECKING"
