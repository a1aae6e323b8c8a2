"""The key `recgen.given_features`."""

from __future__ import annotations

from recgen.config.strict import Strict


class GivenFeatures(Strict):
    """Embeddings of the items by the run's encoder that are there already, each a ``.npy`` file at a path or an URL.

    Attributes
    ----------
    image, text
        float32 ``[items, D]``, with the item tokens of its rows in ``<name>.ids.txt``, one a line, as `recgen export` writes
        them; null encodes the items' images, or texts.
    """

    image: str | None = None
    text: str | None = None
