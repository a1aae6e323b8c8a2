"""Pictures as data URIs, small enough that a report of a hundred of them is still one ordinary file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from recgen.data.pictures import BadPictureError, read_picture

STRIP_EDGE, GALLERY_EDGE = 96, 224  # pixels; twice what the page shows, for dense screens
LOSSLESS_UP_TO = 96


def data_uri(path: Path | None, edge: int) -> str | None:
    """Return a picture, at most `edge` pixels a side, as a ``data:`` address; None if none can be read."""
    if path is None:
        return None
    try:
        picture = read_picture(path)
    except BadPictureError:
        return None
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # drawn pictures are small and have hard edges, which lossy compression smears
    picture.save(buffer, "WEBP", lossless=max(picture.size) <= LOSSLESS_UP_TO, quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
