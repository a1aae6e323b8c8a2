"""The small models of the embedded default; `CARD.md` says what they are and how good."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def asset_folder(name: str) -> Path:
    """Return the folder of a shipped model by name, or `name` itself as a path."""
    shipped = FOLDER / name
    return shipped if "/" not in name and shipped.is_dir() else Path(name)
