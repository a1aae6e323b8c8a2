"""The small models of the embedded default; `CARD.md` says what they are and how good."""

from __future__ import annotations

from pathlib import Path

from recgen.core.errors import UserError

FOLDER = Path(__file__).parent
_LONGEST, _LONGEST_PART = 4095, 255  # bytes of a path and of a name in it, on Linux


def asset_folder(name: str) -> Path:
    """Return the folder of a shipped model by name, or `name` itself as a path.

    Raises
    ------
    UserError
        For a name that is longer than any file's.
    """
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in name.split("/")):
        found = f"{name[:40]!r} and so on, {len(name)} characters"
        raise UserError("a model's name", found=found, expected="a shipped model, a folder or a hub id")
    shipped = FOLDER / name
    return shipped if "/" not in name and shipped.is_dir() else Path(name)
