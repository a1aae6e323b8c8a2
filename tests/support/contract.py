"""The contract of `recgen.testing`, and what generators with a language model have to add to it."""

from __future__ import annotations

import pytest

from generators.base import Generator
from recgen.testing.generators import (
    REQUESTS,
    GeneratorContract,
    ask,
    assert_same_images,
    files,
    pixels,
)

__all__ = [
    "REQUESTS",
    "GeneratorContract",
    "LearningContract",
    "ask",
    "assert_same_images",
    "files",
    "pixels",
]


class LearningContract(GeneratorContract):
    """The contract of generators with a language model: subclasses name their `kind` and its `small` settings."""

    kind: type[Generator]
    small: dict

    @pytest.fixture(autouse=True, scope="class")
    def _language_model(self, language_model) -> None:
        type(self).language_model = language_model

    @classmethod
    def make(cls, backbone, encoder, **changes):
        return cls.kind(cls.kind.Config(**{**cls.small, **changes}), backbone, encoder, cls.language_model)

    @classmethod
    def batch(cls, size):
        return {"decode": {**cls.small["decode"], "batch_size": size}}
