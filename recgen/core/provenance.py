"""Provenance of a drawn image: what an XMP packet inside the PNG says about where it comes from.

IPTC's Digital Source Type (``Iptc4xmpExt:DigitalSourceType`` of its Photo Metadata Standard) says that a trained model drew the
image, and ``recgen:recipe`` is the SHA-256 of the recipe that it was drawn by. It is no signature: anybody can take it out.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from xml.sax.saxutils import quoteattr

from recgen.core.version import __version__

DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media that a trained model has made."""
KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the iTXt chunk in which PNG files carry XMP (XMP specification, part 3)."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SPACES = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "recgen": "urn:recgen:1.0#",
}


def recipe_hash(recipe: str) -> str:
    """Return the SHA-256 of a recipe, as JSON with sorted keys, in hexadecimal digits."""
    return hashlib.sha256(recipe.encode()).hexdigest()


def packet(recipe: str) -> str:
    """Return the XMP packet of an image drawn by a recipe.

    Examples
    --------
    >>> 'trainedAlgorithmicMedia' in packet('{"seed": 1}'), recipe_hash('{"seed": 1}') in packet('{"seed": 1}')
    (True, True)
    """
    spaces = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in _SPACES.items())
    said = {
        "Iptc4xmpExt:DigitalSourceType": DRAWN,
        "xmp:CreatorTool": f"recgen {__version__}",
        "recgen:recipe": f"sha256:{recipe_hash(recipe)}",
    }
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in said.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about=""{spaces}{attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def stamped(png: bytes, recipe: str) -> bytes:
    """Return a PNG file with the XMP packet of its recipe; one that has XMP already stays as it is. Pixels are not touched.

    Raises
    ------
    ValueError
        For bytes that are no PNG file.
    """
    if not png.startswith(_SIGNATURE):
        raise ValueError("not a PNG file")
    if KEYWORD.encode() in png:
        return png
    body = KEYWORD.encode() + b"\0\0\0\0\0" + packet(recipe).encode()
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"iTXt" + body))
    header = len(_SIGNATURE) + 25  # IHDR, which stands first: 4 + 4 + 13 + 4 bytes
    return png[:header] + chunk + png[header:]
