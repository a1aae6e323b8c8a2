"""Images as data URIs, small enough that a report of a hundred of them is still one ordinary file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from recgen.data.images import BadImageError, read_image

STRIP_EDGE, GALLERY_EDGE = 96, 224  # pixels; twice what the page shows, for dense screens
LOSSLESS_UP_TO = 96


def data_uri(path: Path | None, edge: int) -> str | None:
    """Return an image, at most `edge` pixels a side, as a ``data:`` address; None if none can be read."""
    if path is None:
        return None
    try:
        image = read_image(path)
    except BadImageError:
        return None
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # drawn images are small and have hard edges, which lossy compression smears
    image.save(buffer, "WEBP", lossless=max(image.size) <= LOSSLESS_UP_TO, quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
