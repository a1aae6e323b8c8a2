"""Identifies the code behind an installed generator or ranking model, so that changed code is trained and drawn with again."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from recgen.core.io import digest, identity

_OURS = ("generators", "ranking_models")  # packages in which each method's code is followed import by import


def code(module: str) -> str:
    """Identify the Python files that a class of `module` is made of. Nothing is imported.

    Of another distribution these are all files of its package. Of recgen's own packages, which hold many methods, they are those
    that the module imports there, directly or not, lazily or not, so that a change of one method does not train the others again
    and a change of what several share does. The libraries in `recgen` itself count by its version alone.
    """
    package = module.partition(".")[0]
    if package in _OURS:
        return digest([[name, identity(path)] for name, path in sorted(_reached(module).items())])
    origin = _file(package)
    if origin is None:
        return "absent"
    return identity(origin.parent, (".py",)) if origin.name == "__init__.py" else identity(origin)


def _reached(module: str) -> dict[str, Path]:
    """Return the files of a module and of all modules of our packages that it imports, by name."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _file(name)
        if path is not None:
            found[name] = path
            waiting += _imports(path, path.stat().st_mtime_ns)
    return found


@cache
def _imports(path: Path, changed: int) -> list[str]:
    """Return what a file, last changed at that time, imports from our packages; a name may be a module or something in one."""
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.partition(".")[0] in _OURS]


@cache
def _folder(package: str) -> Path | None:
    """Return the folder of a package of ours."""
    found = find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _file(module: str) -> Path | None:
    """Return the file of a module; None where there is no such module.

    Below our packages paths are put together by hand: `find_spec` would import the packages in between.
    """
    package, *rest = module.split(".")
    if not rest:
        found = find_spec(package)
        return None if found is None or found.origin is None else Path(found.origin)
    folder = _folder(package)
    if folder is None:
        return None
    path = folder.joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
