"""recgen: personalised item images for RecBole, judged by the recommender itself.

>>> import recgen
>>> recgen.Request("u1", "i7", seed=3).item_id
'i7'

Importing this package imports nothing else: each name below is loaded when it is first asked for (PEP 562), because torch,
RecBole and diffusers take seconds.
"""

from typing import TYPE_CHECKING, Any

from recgen.core.version import __version__

if TYPE_CHECKING:
    from recgen.api import evaluate as evaluate
    from recgen.api import open as open
    from recgen.api import run as run
    from recgen.api import tune as tune
    from recgen.core.errors import UserError as UserError
    from recgen.data.types import Creative as Creative
    from recgen.data.types import Request as Request
    from recgen.runs import Run as Run

_HOMES = {
    "Creative": "recgen.data.types",
    "Request": "recgen.data.types",
    "Run": "recgen.runs",
    "UserError": "recgen.core.errors",
    "evaluate": "recgen.api",
    "open": "recgen.api",
    "run": "recgen.api",
    "tune": "recgen.api",
}

__all__ = ["Creative", "Request", "Run", "UserError", "__version__", "evaluate", "open", "run", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
