"""Turns pydantic's complaints into one message that names the key and the nearest valid one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from recgen.core.errors import UserError, nearest, without_credentials


def validate(model: type[Any], values: Any, where: str, prefix: str) -> Any:
    """Return `model` filled from `values`; the first mistake becomes a `UserError` that names its key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = min(
            found, key=lambda one: one["type"] != "extra_forbidden"
        )  # a misspelt key, before the key that it leaves out
        if first["type"] != "extra_forbidden":
            # where a number or a block may stand, and a block does, its own mistake and not that it is no number
            here = first["loc"][:-1]
            first = max(
                (one for one in found if one["loc"][: len(here)] == here), key=lambda one: len(one["loc"])
            )
        parts = list(_keys(first["loc"], values))
        key = ".".join([prefix, *parts])
        if first["type"] == "extra_forbidden":
            todo = nearest(parts[-1], _fields(model, parts[:-1]))
            block = ".".join([prefix, *parts[:-1]])
            raise UserError(
                f"{where}: {key}", found="an unknown key", expected=f"a key of {block}", todo=todo
            ) from error
        message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise UserError(
            f"{where}: {key}", found=without_credentials(repr(first["input"]))[:200], expected=message
        ) from error


def _keys(place: tuple[int | str, ...], values: Any) -> Iterator[str]:
    """Yield the keys of a place in `values`, without the names of types that pydantic puts between them.

    What stands last may be a key that is missing.
    """
    holder = values
    for number, part in enumerate(place):
        inside = isinstance(holder, dict | list) and _has(holder, part)
        if inside:
            holder = holder[part]
        if inside or (number == len(place) - 1 and isinstance(holder, dict)):
            yield str(part)


def _has(holder: Any, part: int | str) -> bool:
    return part in holder if isinstance(holder, dict) else isinstance(part, int) and part < len(holder)


def _fields(model: Any, path: list[str]) -> list[str]:
    """Return the field names of the blocks that may stand at `path` below `model`."""
    blocks = [model]
    for part in path:
        fields = [each.model_fields[part] for each in blocks if part in each.model_fields]
        # what is no field is a name of the user's in a mapping, whose values are the blocks already
        blocks = [found for field in fields for found in _blocks(field.annotation)] or blocks
    return [name for each in blocks for name in each.model_fields]


def _blocks(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the blocks that a type names, alone, beside others or inside lists and mappings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _blocks(inner)
