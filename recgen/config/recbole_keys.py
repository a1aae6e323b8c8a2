"""RecBole's keys, so that a misspelt one is named; they are read as text, and RecBole is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recgen.config import recbole_values
from recgen.config.schema import Settings
from recgen.core.errors import UserError, nearest

_YAML_KEY = re.compile(r"^([A-Za-z_]\w*)\s*:", re.MULTILINE)
_QUOTED = re.compile(r"'(\w+)'")
_NOWHERE_LISTED = frozenset(
    """
    dataset encoding item_features valid_neg_sample_args test_neg_sample_args cin contrast eta has_residual norm sim tail_ratio
    image_redraws valid_users token_num_threshold use_filter xgb_early_stopping_rounds
    """.split()
)
"""Keys that RecBole or recgen's ranking models read, and that stand in none of the files below."""


@cache
def known() -> frozenset[str]:
    """Return the keys of RecBole and of all of its models, and those of recgen's ranking models."""
    found = set(_NOWHERE_LISTED)
    for entry in files("recbole_configs").iterdir():
        if entry.name.endswith(".yaml") and entry.name[:1].isupper():  # a model's defaults
            found.update(_YAML_KEY.findall(entry.read_text(encoding="utf-8")))
    specification = find_spec("recbole")
    for folder in (specification.submodule_search_locations or ()) if specification else ():
        for path in Path(folder, "properties").rglob("*.yaml"):
            if path.name == "url.yaml":  # addresses of data sets, by their names
                continue
            found.update(_YAML_KEY.findall(path.read_text(encoding="utf-8")))
        arguments = Path(folder, "utils/argument_list.py")
        found.update(_QUOTED.findall(arguments.read_text(encoding="utf-8")) if arguments.exists() else ())
    return frozenset(found)


def check(values: Mapping[str, Any], settings: Settings, where: str) -> None:
    """Raise `UserError` for a key that neither RecBole nor recgen's ranking models have.

    Parameters
    ----------
    values
        RecBole's keys at top level of the YAML.
    settings
        The `recgen:` block, in which further RecBole keys are: those of single models, of the downstream trainings, and the names
        that `extra_keys` allows.
    where
        The YAML, for messages.
    """
    _check(values, settings.extra_keys, f"{where}: ")
    _check(settings.downstream.settings, settings.extra_keys, f"{where}: recgen.downstream.settings.")
    for model, block in settings.ranker.settings.items():
        _check(block, settings.extra_keys, f"{where}: recgen.ranker.settings.{model}.")
        recbole_values.check(block, f"{where}: recgen.ranker.settings.{model}.")
    recbole_values.check(values, f"{where}: ")
    recbole_values.check(settings.downstream.settings, f"{where}: recgen.downstream.settings.")


def _check(keys: Iterable[str], extra: list[str], prefix: str) -> None:
    allowed = {*known(), *extra}
    for key in keys:
        if key not in allowed:
            near = nearest(key, allowed)
            raise UserError(
                f"{prefix}{key}",
                found="an unknown key",
                expected="a key of RecBole or of a ranking model",
                todo=f"{near} Else list it in recgen.extra_keys.".strip(),
            )
