"""Turns pydantic's complaints into one message that names the key and the nearest valid one."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

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
        parts = [str(part) for part in first["loc"]]
        key = ".".join([prefix, *parts])
        if first["type"] == "extra_forbidden":
            todo = nearest(parts[-1], _fields(model, parts[:-1]))
            raise UserError(
                f"{where}: {key}", found="an unknown key", expected=f"a key of {prefix}", todo=todo
            ) from error
        message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise UserError(
            f"{where}: {key}", found=without_credentials(repr(first["input"]))[:200], expected=message
        ) from error


def _fields(model: Any, path: list[str]) -> list[str]:
    """Return the field names of the block at `path` below `model`."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))
