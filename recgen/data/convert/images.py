"""Images that came with raw files, in a folder or a zip, by name without ending."""

from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from recgen.core.errors import UserError
from recgen.data.convert.tally import Tally
from recgen.data.images import ENDINGS, MAX_BYTES, image_index


def find_images(source: Path, scratch: Path, tally: Tally) -> dict[str, Path]:
    """Return the images of a folder, or of a zip unpacked into `scratch`, by name without ending (Unicode NFC).

    Of a zip only the members' own names count, never their folders, so that nothing is written elsewhere.

    Raises
    ------
    UserError
        When `source` is neither.
    """
    if source.is_dir():
        return image_index(source)
    if not zipfile.is_zipfile(source):
        raise UserError(
            f"--images {source}", found="neither a folder nor a zip", expected="images named by item id"
        )
    folder = scratch / "unpacked"
    folder.mkdir()
    found: dict[str, Path] = {}
    with zipfile.ZipFile(source) as archive:
        for number, member in enumerate(archive.infolist()):
            name = PurePosixPath(member.filename)
            stem, ending = unicodedata.normalize("NFC", name.stem), name.suffix.lower()
            if member.is_dir() or ending not in ENDINGS:
                continue
            if stem in found:
                tally.drop("images", "another image of that name was there before", member.filename)
                continue
            data = _unpacked(archive, member)
            if data is None:
                tally.drop("images", "cannot be unpacked, or more than 64 MiB", member.filename)
                continue
            found[stem] = folder / f"{number}{ending}"
            found[stem].write_bytes(data)
    return found


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    """Return a member's bytes; None where it is broken, locked or, whatever its header says, too large."""
    try:
        with archive.open(member) as file:
            data = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError):
        return None
    return data if len(data) <= MAX_BYTES else None


def inside(folder: Path, name: str) -> Path | None:
    """Return the file of that name if it is there and within `folder`, whatever dots and links are in the name."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # too long, or with a null character
        return None
