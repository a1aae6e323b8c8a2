"""Finds generators and ranking models by entry point, so that another package can add one.

A package adds itself by declaring, in the groups `recgen.generators` and `recgen.ranking_models`, a name and the class it
stands for. Names are read without importing anything; a class is imported when it is asked for.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError, nearest
from recgen.core.io import identity

GENERATORS = "recgen.generators"
RANKING_MODELS = "recgen.ranking_models"


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def names(group: str) -> list[str]:
    """Return the installed names of a group, in alphabetical order."""
    return list(_installed(group))


def target(group: str, name: str) -> str:
    """Return what an installed name stands for, as "module:class"."""
    return _installed(group)[name].value


def source(group: str, name: str) -> list[str]:
    """Identify what an installed name stands for: its class, and the Python files of its package and of recgen itself."""
    value = target(group, name)
    found = [value]
    for package in (value.partition(":")[0].partition(".")[0], "recgen"):
        specification = find_spec(package)
        origin = Path(specification.origin) if specification and specification.origin else Path(package)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        found += [identity(file) for file in files]
    return found


def load(group: str, name: str, where: str) -> Any:
    """Return the class that `name` stands for.

    Parameters
    ----------
    group
        `GENERATORS` or `RANKING_MODELS`.
    name
        The name as the user wrote it.
    where
        The file and key the name was read from, for the error message.

    Raises
    ------
    UserError
        When nothing of that name is installed.
    """
    check(group, name, where)
    return _installed(group)[name].load()


@cache
def recbole_models() -> list[str]:
    """Return the names of RecBole's own general recommenders, such as BPR and LightGCN; imports none of them."""
    package = find_spec("recbole")
    assert package is not None and package.origin is not None
    root = Path(package.origin).parent
    modules = {path.stem for path in (root / "model/general_recommender").glob("*.py")}
    return sorted(
        path.stem for path in (root / "properties/model").glob("*.yaml") if path.stem.lower() in modules
    )


def check_ranking_model(name: str, where: str, images: bool = False) -> None:
    """Raise `UserError` when `name` is neither an installed ranking model nor one of RecBole's own; imports nothing.

    With `images`, RecBole's own are refused too: they read no images.
    """
    if name in names(RANKING_MODELS) or name not in recbole_models():
        check(RANKING_MODELS, name, where)
    elif images:
        raise UserError(
            where,
            found=f"{name}, which reads no images: another image would change none of its scores",
            expected=f"a model that does: one of {', '.join(names(RANKING_MODELS))}",
            todo=f"{name} can be retrained in the downstream stage: recgen.downstream.model.",
        )


def check(group: str, name: str, where: str) -> None:
    """Raise `UserError` when nothing of that name is installed; imports nothing."""
    installed = _installed(group)
    if name not in installed:
        expected = (
            f"one of {', '.join(installed)}"
            if installed
            else f"an installed package with entry points in {group}"
        )
        raise UserError(where, found=repr(name), expected=expected, todo=nearest(name, installed))
