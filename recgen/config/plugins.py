"""Finds generators and ranking models by entry point, so that another package can add one.

A package adds itself by declaring, in the groups `recgen.generators` and `recgen.ranking_models`, a name and the class it
stands for. Names are read without importing anything; a class is imported when it is asked for. A generator's settings can be
declared beside it, in `recgen.generator_settings` under the same name, so that a configuration is checked without its class.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recgen.config.sources import code
from recgen.core.errors import UserError, brief, nearest

GENERATORS = "recgen.generators"
GENERATOR_SETTINGS = "recgen.generator_settings"
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


def source(group: str, name: str) -> dict[str, str]:
    """Identify the code behind an installed name: the class, its distribution's version and its Python files. Imports nothing."""
    entry = _installed(group)[name]
    version = entry.dist.version if entry.dist is not None else ""
    return {"class": entry.value, "version": version, "files": code(entry.module)}


def ranking_model_source(name: str) -> dict[str, str] | None:
    """Identify the code of a ranking model; None for RecBole's own, which come with RecBole's version."""
    return source(RANKING_MODELS, name) if name in names(RANKING_MODELS) else None


def origin(group: str, name: str) -> str:
    """Return what an installed name stands for and the package that brought it: ``mine.draw:Mine of mine 1.0``."""
    entry = _installed(group)[name]
    return f"{entry.value} of {entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def settings_class(kind: str, where: str) -> Any:
    """Return the settings of an installed generator, a subclass of `generators.settings.GeneratorConfig`.

    They are imported alone where the package declares them in the group `recgen.generator_settings`, under the generator's name;
    else they are the attribute `Config` of the generator's class, for which everything that the class needs is imported.

    Raises
    ------
    UserError
        When no generator of that name is installed.
    """
    check(GENERATORS, kind, where)
    if kind in _installed(GENERATOR_SETTINGS):
        return load(GENERATOR_SETTINGS, kind, where)
    return load(GENERATORS, kind, where).Config


def load(group: str, name: str, where: str) -> Any:
    """Return the class that `name` stands for.

    Parameters
    ----------
    group
        `GENERATORS`, `GENERATOR_SETTINGS` or `RANKING_MODELS`.
    name
        The name as the user wrote it.
    where
        The file and key the name was read from, for the error message.

    Raises
    ------
    UserError
        When nothing of that name is installed, or its package cannot be imported.
    """
    check(group, name, where)
    try:
        return _installed(group)[name].load()
    except Exception as error:  # another package's code may raise anything
        raise UserError(
            where,
            found=f"{name!r}, whose class {origin(group, name)} cannot be imported ({brief(error)})",
            expected="a package that can be imported",
        ) from error


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
            expected="a model that reads an item's image when it scores, such as LATTICE, MICRO or VBPR",
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
