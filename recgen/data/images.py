"""Reads images that may be broken or hostile; nothing else opens a user's image."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from recgen.data.shards import is_packed, place, read_file

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
MAX_ASPECT = 50  # a transform that scales the shorter side to 224 pixels scales the longer one along
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class BadImageError(Exception):
    """An image that cannot be used; its message says why in a few words."""


def read_image(path: Path) -> Image.Image:
    """Return an image, in a file of its own or packed (`recgen.data.shards`), as RGB, upright, with transparent parts on white.

    Raises
    ------
    BadImageError
        For a file that is missing, empty, above 64 MiB, not a JPEG, PNG or WebP, of more than 50 million pixels or with
        a side more than 50 times the other (found from its header, before anything is unpacked), animated, truncated, or
        of a mode without a faithful RGB (16-bit or floating-point grey).
    """
    source = _source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=("JPEG", "PNG", "WEBP")) as image:
                _check_header(image)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except BadImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError("a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise BadImageError("not a JPEG, PNG or WebP file") from error
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on bad bytes
        raise BadImageError(f"cannot be decoded ({str(error)[:100] or type(error).__name__})") from error


def _source(path: Path) -> Path | io.BytesIO:
    """Return what to read an image from, after a look at its size: the file, or of a packed one its contents."""
    packed = is_packed(path)
    try:
        size = place(path)[1] if packed else path.stat().st_size
    except OSError as error:
        raise BadImageError("cannot be opened") from error
    if not packed and not path.is_file():
        raise BadImageError("not a file")
    if size == 0:
        raise BadImageError("empty file")
    if size > MAX_BYTES:
        raise BadImageError(f"{size / 2**20:.0f} MiB; at most {MAX_BYTES // 2**20}")
    return io.BytesIO(read_file(path)) if packed else path


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} million")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImageError(f"{width} x {height} pixels; a side is at most {MAX_ASPECT} times the other")
    if getattr(image, "n_frames", 1) > 1:
        raise BadImageError("animated")
    if image.mode not in _MODES:
        raise BadImageError(f"mode {image.mode} has no faithful RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def image_index(folder: Path) -> dict[str, Path]:
    """Return the folder's images by name; see `index_of`."""
    return index_of(folder.iterdir())


def index_of(files: Iterable[Path]) -> dict[str, Path]:
    """Return the images among a folder's files by name without ending (Unicode NFC). A name's first ending in `ENDINGS` wins.

    Images are looked up in this listing and never by joining an item's token to a path, so a token such as
    ``../../x`` finds nothing.
    """
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (_rank(path), path.name)):
        if _rank(path) < len(ENDINGS):
            found.setdefault(unicodedata.normalize("NFC", path.stem), path)
    return found


def _rank(path: Path) -> int:
    ending = path.suffix.lower()
    return ENDINGS.index(ending) if ending in ENDINGS else len(ENDINGS)
