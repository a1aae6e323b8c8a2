"""Names that a package offers without importing the modules that hold them before they are asked for (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def exports(package: str, **modules: str) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``.

    Parameters
    ----------
    package
        The package's ``__name__``.
    modules
        For each name, the module inside the package that holds it.

    Examples
    --------
    >>> exports("recgen.core", UserError="errors")("UserError").__name__
    'UserError'
    """

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return attribute
