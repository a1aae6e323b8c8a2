"""Every key of a configuration with its type, default and meaning, read from the pydantic models that check it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, its type and default as the YAML writes them, what it means, and the class that checks it."""

    name: str
    type: str
    default: str
    meaning: str
    source: str


def keys(model: type[BaseModel], prefix: str = "", given: BaseModel | None = None) -> Iterator[Key]:
    """Yield the keys of a block, and below each that is a block itself the keys of that.

    `given` is the default of the whole block, which may differ from the defaults that its class has for each key.

    >>> from recgen.config.downstream import Rerank
    >>> [key.name for key in keys(Rerank, "downstream.rerank.")]
    ['downstream.rerank.users', 'downstream.rerank.negatives']
    """
    said = attributes(model)
    for name, field in model.model_fields.items():
        meaning = field.description or said.get(name, "")
        source = f"{model.__module__}.{model.__qualname__}"
        default = _default(field) if given is None else getattr(given, name)
        below = block(field.annotation)
        shown = "" if below and isinstance(default, BaseModel) else _text(default)
        yield Key(f"{prefix}{name}", _type(field.annotation), shown, meaning, source)
        if below is not None:
            yield from keys(below, f"{prefix}{name}.", default if isinstance(default, BaseModel) else None)


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what the "Attributes" sections of the docstrings of a class and its bases say of each field.

    >>> from recgen.config.downstream import Downstream
    >>> attributes(Downstream)["per_item"]
    'Creatives an item: for so many users who like it in the training part, and for as many who have not met it.'
    """
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        text = inspect.cleandoc(cls.__doc__ or "")
        _, _, section = text.partition("Attributes\n----------\n")
        names: list[str] = []
        for line in section.splitlines():
            if re.match(r"\w+(, \w+)*$", line):
                names = line.split(", ")
                found.update(dict.fromkeys(names, ""))
            elif line.strip():
                found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found


def block(kind: Any) -> type[BaseModel] | None:
    """Return the block that a key's type names, alone or beside null; None for a plain value."""
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            others = [other for other in get_args(kind) if other not in (each, type(None))]
            return None if others else each
    return None


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _text(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, default=str, ensure_ascii=False)


_PLAIN = {int: "int", float: "float", str: "text", bool: "true or false", type(None): "null", Any: "anything"}


def _type(kind: Any) -> str:
    """Return a type in the words of the YAML."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is None:
        return "mapping" if isinstance(kind, type) and issubclass(kind, BaseModel) else _name(kind)
    named = repr(origin)
    if "Literal" in named:
        return " | ".join(str(value) for value in inside)
    if "Annotated" in named:
        return _type(inside[0])
    if origin is Union or "UnionType" in named:
        return " | ".join(dict.fromkeys(_type(each) for each in inside))
    if origin is dict:
        return f"mapping of {_type(inside[0])} to {_type(inside[1])}"
    return f"list of {' and '.join(_type(each) for each in inside if each is not Ellipsis)}"


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
