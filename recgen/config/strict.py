"""The base of every block of a configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of our blocks: unknown and ill-typed keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
