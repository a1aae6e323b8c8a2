"""What a study tries: the settings of the generators, and values for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from recgen.config import plugins
from recgen.config.loader import Config
from recgen.config.tune import Choice, Range
from recgen.config.validation import validate
from recgen.core.errors import UserError, nearest

if TYPE_CHECKING:
    from optuna import Trial

USUAL: dict[str, Range | None] = {
    "k": Range(low=1, high=10),
    "r": Range(low=1, high=5),
    "lambda1": Range(low=0.0, high=2.0),
    "lambda2": Range(low=0.0, high=1.0),
    "alpha": None,
    "beta": None,
    "gamma": None,
    "guidance": Range(low=0.0, high=20.0, step=0.5),
    "decode.guidance_scale": Range(low=1.0, high=12.0, step=0.5),
}
"""Settings that are tried by default in generators that have them; None: a tenth to ten times what the configuration says.

The two last are the scales of classifier-free guidance, of a prior and of the images. A setting's own limits come first.
"""
FACTOR = 10.0

Space = dict[str, Range | Choice]


def tuned(config: Config) -> list[str]:
    """Return the generators whose settings are tried, in the order of the run."""
    asked = config.settings.tune.generators
    for name in asked or []:
        if name not in config.settings.generators:
            listed = config.settings.generators
            raise UserError(
                f"{config.source}: recgen.tune.generators",
                found=repr(name),
                expected=f"generators of the run: {', '.join(listed)}",
                todo=nearest(name, listed),
            )
    return [name for name in config.settings.generators if asked is None or name in asked]


def space(config: Config) -> Space:
    """Return what is tried, by key below `recgen:`, after a check that the generators accept it.

    Raises
    ------
    UserError
        For a key that is no setting of a generator that is tuned, a value that it does not accept, or nothing to try.
    """
    found = config.settings.tune.space or dict(_usual(config))
    if not found:
        raise UserError(
            f"{config.source}: recgen.tune.space",
            found=f"none of {', '.join(USUAL)} in {', '.join(tuned(config))}",
            expected="something to try",
            todo="Name settings of the generators, as in {ragar.k: {low: 1, high: 10}}.",
        )
    for key, values in found.items():
        _check(config, key, values)
    return found


def own_values(config: Config, tried: Space) -> dict[str, Any]:
    """Return what the configuration itself has for each key, with the types that the study has."""
    found = {}
    for key, values in tried.items():
        name, _, setting = key.partition(".")
        own = _value(config.generators[name].settings, setting)
        found[key] = float(own) if isinstance(values, Range) and not _whole(values) else own
    return found


def contains(tried: Space, values: Mapping[str, Any]) -> bool:
    """Return whether values are among those that are tried."""
    return all(_contains(tried[key], value) for key, value in values.items())


def _contains(values: Range | Choice, value: Any) -> bool:
    if isinstance(values, Choice):
        return value in values.choices
    if not isinstance(value, int | float) or not values.low <= value <= values.high:
        return False
    steps = (value - values.low) / (values.step or (1 if _whole(values) else abs(value - values.low) or 1))
    return abs(steps - round(steps)) < 1e-9


def suggest(trial: Trial, tried: Space) -> dict[str, Any]:
    """Return the trial's value for each key."""
    return {key: _suggested(trial, key, values) for key, values in tried.items()}


def _suggested(trial: Trial, key: str, values: Range | Choice) -> Any:
    if isinstance(values, Choice):
        return trial.suggest_categorical(key, values.choices)
    if _whole(values):
        low, high, step = int(values.low), int(values.high), int(values.step or 1)
        return trial.suggest_int(key, low, high, step=step, log=values.log)
    apart = None if values.step is None else float(values.step)
    return trial.suggest_float(key, float(values.low), float(values.high), step=apart, log=values.log)


def _whole(values: Range) -> bool:
    return all(isinstance(number, int) for number in (values.low, values.high, values.step or 1))


def _usual(config: Config) -> Iterator[tuple[str, Range]]:
    for name in tuned(config):
        kind = config.generators[name].kind
        model = plugins.settings_class(kind, f"{config.source}: recgen.generators")
        for setting, values in USUAL.items():
            own = _value(config.generators[name].settings, setting)
            if isinstance(own, bool) or not isinstance(own, int | float):
                continue
            wanted = values or _around(float(own))
            limited = _limited(wanted, model, setting)
            if limited.low < limited.high:
                yield f"{name}.{setting}", limited


def _around(own: float) -> Range:
    """Return the numbers within a factor of ten of a setting's own value; from 0 to 1 where that is 0."""
    if own <= 0:
        return Range(low=0.0, high=1.0)
    return Range(low=own / FACTOR, high=own * FACTOR, log=True)


def _limited(values: Range, kind: Any, setting: str) -> Range:
    """Cut a range to what the setting's own type allows."""
    whole = _whole(values)
    low: float = values.low
    high: float = values.high
    gap = 1 if whole else 1e-6  # between an open limit and the first number that it allows
    for limit in _limits(kind, setting.split(".")):
        least, above, most, below = (getattr(limit, name, None) for name in ("ge", "gt", "le", "lt"))
        least = above + gap if above is not None else least
        most = below - gap if below is not None else most
        if least is not None:
            low = max(low, ceil(least) if whole else least)
        if most is not None:
            high = min(high, floor(most) if whole else most)
    return values.model_copy(update={"low": low, "high": high})


def _limits(kind: Any, parts: list[str]) -> list[Any]:
    field = kind.model_fields[parts[0]]
    return list(field.metadata) if len(parts) == 1 else _limits(field.annotation, parts[1:])


def _value(block: Mapping[str, Any], setting: str) -> Any:
    """Return a setting's value by its dotted name; None where the block has no such setting."""
    value: Any = block
    for part in setting.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check(config: Config, key: str, values: Range | Choice) -> None:
    """Raise `UserError` unless the key is a setting of a tuned generator that accepts the extremes, or all choices."""
    where = f"{config.source}: recgen.tune.space.{key}"
    name, _, setting = key.partition(".")
    if name not in tuned(config) or not setting:
        raise UserError(
            where, found=f"{key!r}", expected=f"<generator>.<setting> with one of {', '.join(tuned(config))}"
        )
    block = config.generators[name].settings
    parent, _, last = setting.rpartition(".")
    above = _value(block, parent) if parent else block
    if not isinstance(above, Mapping) or last not in above:
        known = [str(each) for each in above] if isinstance(above, Mapping) else list(block)
        raise UserError(
            where, found="an unknown setting", expected=f"one of {name}'s", todo=nearest(last, known)
        )
    model = plugins.settings_class(config.generators[name].kind, where)
    for value in values.choices if isinstance(values, Choice) else (values.low, values.high):
        validate(model, _changed(block, setting.split("."), value), where, f"recgen.{name}")


def _changed(block: Mapping[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    first, *rest = parts
    return {**block, first: _changed(block[first], rest, value) if rest else value}
