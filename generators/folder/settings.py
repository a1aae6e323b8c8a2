"""Settings of folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from generators.settings import GeneratorConfig


class Settings(GeneratorConfig):
    """What folder's block of the YAML accepts."""

    families = frozenset()

    path: str = Field(description="the folder")
    manifest: str | None = Field(
        None, description="the manifest's name in it; null for manifest.csv or manifest.parquet"
    )
    missing: Literal["error", "original"] = Field(
        "error",
        description="a request without a usable image stops the run, or gets the item's own image",
    )

    def external_files(self) -> list[str]:
        """Return the folder: a run notices when an image or the manifest changes."""
        return [self.path]
