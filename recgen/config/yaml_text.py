"""Reads YAML so that whatever is wrong with it is one message: where it is, what is there, and what to do."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from recgen.core.errors import UserError

_MOST_VALUES = 100_000  # aliases of aliases can make a short text as large as one likes
_DEEPEST = 50
_PLAIN = (str, bool, int, float, type(None))


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `1e-5` as a number, as RecBole does and YAML 1.1 does not, and takes no key twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _no_date(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    raise yaml.MarkedYAMLError(
        problem=f"the date {node.value}, which no key takes; put it in quotes if it is meant as text",
        problem_mark=node.start_mark,
    )


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _no_date)


def read_text(path: Path, where: str) -> str:
    """Return a file's text, or raise `UserError` where it cannot be read or is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            where, found=error.strerror or "an error", expected="a file that can be read"
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{where}, line {line}",
            found=f"the byte 0x{data[error.start]:02x}, which is not UTF-8",
            expected="UTF-8 text",
            todo="Save the file as UTF-8.",
        ) from error


def parse_yaml(text: str, where: str) -> Any:
    """Return the values of a YAML text: mappings with text as keys, lists, text, finite numbers, booleans and nulls.

    Parameters
    ----------
    text
        The YAML.
    where
        Where it was read from, for messages.

    Raises
    ------
    UserError
        For text that is not safe YAML, a key that stands twice in a mapping, a date, a number that is not finite, a key that
        is not text, or values that contain themselves.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        raise UserError(
            f"{where}, line {line}",
            found=f"the control character U+{character:04X}",
            expected="text",
            todo="Remove it.",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line_of = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "text that is not YAML"
        raise UserError(f"{where}{line_of}", found=problem, expected="safe YAML") from error
    except RecursionError as error:
        raise UserError(where, found="values nested too deep", expected="safe YAML") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise UserError(where, found=f"a value that is none ({error})"[:200], expected="safe YAML") from error
    _Check(where).value(values, ())
    return values


class _Check:
    """Walks through values and raises `UserError`, with the key, at the first that no configuration can have."""

    def __init__(self, where: str) -> None:
        self.where, self.count, self.above = where, 0, set[int]()

    def value(self, value: Any, path: tuple[str, ...]) -> None:
        self.count += 1
        if self.count > _MOST_VALUES:
            raise self._error(path, f"more than {_MOST_VALUES} values", "fewer; aliases count each time")
        if isinstance(value, dict | list):
            self._container(value, path)
        elif not isinstance(value, _PLAIN):
            raise self._error(path, f"{value!r}, a {type(value).__name__}"[:200], "text, a number or a list")
        elif isinstance(value, float) and not math.isfinite(value):
            raise self._error(path, str(value), "a finite number")

    def _container(self, value: dict[Any, Any] | list[Any], path: tuple[str, ...]) -> None:
        if id(value) in self.above:
            raise self._error(path, "an alias of what it is part of", "values that end")
        if len(path) > _DEEPEST:
            raise self._error(path[:5], f"values nested more than {_DEEPEST} deep", "fewer levels")
        self.above.add(id(value))
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                raise self._error(path, f"the key {key!r}, a {type(key).__name__}", "text; put it in quotes")
            self.value(inner, (*path, str(key)))
        self.above.discard(id(value))

    def _error(self, path: tuple[str, ...], found: str, expected: str) -> UserError:
        key = ".".join(path)
        return UserError(f"{self.where}: {key}" if key else self.where, found=found, expected=expected)
