"""Calls into a generator of anybody's: what it does wrong is said with its name, its class and its package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from PIL import Image

from recgen.config import plugins
from recgen.config.generators import GeneratorSpec
from recgen.core.errors import UserError, brief
from recgen.data.types import Creative, Request
from recgen.diffusion.conditions import BrokenImageError


class GeneratorFailedError(RuntimeError):
    """A generator raised something; what it was is its `__cause__`."""


@contextmanager
def calling(spec: GeneratorSpec, method: str) -> Iterator[None]:
    """Give what a generator raises in the block its name; a mistake of the user's, a broken image and want of memory stay
    what they are.

    Raises
    ------
    GeneratorFailedError
        From whatever else is raised.
    """
    try:
        yield
    except (UserError, MemoryError, BrokenImageError, GeneratorFailedError):
        raise
    except Exception as error:
        raise GeneratorFailedError(f"{title(spec)} raised in {method}: {brief(error)}") from error


def title(spec: GeneratorSpec) -> str:
    """Return how a message names a generator: ``generator 'mine' (mine.draw:Mine of mine 1.0)``."""
    return f"generator {spec.name!r} ({plugins.origin(plugins.GENERATORS, spec.kind)})"


def checked(spec: GeneratorSpec, yielded: Iterable[Any], requests: Sequence[Request]) -> list[Creative]:
    """Return what `generate` yielded, after checking that it is one creative for each request, in their order.

    No more is taken from it than one creative beyond the last request.

    Raises
    ------
    UserError
        If there are too few or too many, one is no `Creative` with a PIL image and a recipe that JSON can hold, or one answers
        another request than the next.
    GeneratorFailedError
        If the generator raises.
    """
    with calling(spec, "generate"):
        found = list(islice(iter(yielded), len(requests) + 1))
    for place, (creative, request) in enumerate(zip(found, requests, strict=False), start=1):
        _check(spec, creative, request, f"creative {place} of {len(requests)}")
    if len(found) != len(requests):
        many = "more" if len(found) > len(requests) else f"{len(found)} creatives"
        raise _wrong(spec, f"{many} for {len(requests)} requests", "one creative for each")
    return found


def _check(spec: GeneratorSpec, creative: Any, request: Request, which: str) -> None:
    if not isinstance(creative, Creative):
        raise _wrong(spec, f"a {type(creative).__name__} as {which}", "a recgen.data.types.Creative")
    if not isinstance(creative.image, Image.Image):
        raise _wrong(spec, f"{which} with a {type(creative.image).__name__} as its image", "a PIL image")
    if creative.request != request:
        given = creative.request
        named = f"{given.user_id}, {given.item_id}" if isinstance(given, Request) else repr(given)
        expected = f"that of {request.user_id}, {request.item_id}: one for each request, in their order"
        raise _wrong(spec, f"{which} for the request (user, item) {named}", expected)
    try:
        json.dumps(creative.recipe, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _wrong(
            spec, f"{which} with a recipe that JSON cannot hold ({error})", "plain values"
        ) from error


def _wrong(spec: GeneratorSpec, found: str, expected: str) -> UserError:
    return UserError(f"{title(spec)}, in generate", found=found, expected=expected)
