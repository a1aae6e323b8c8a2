"""Static text embeddings of WordLlama: the mean of a text's token vectors. Weights come inside a package.

Card
----
Vectors: 32,000 tokens x 256, distilled from large language models' token embeddings, in English for the most part.
Weights: package wordllama 0.4.0.post1 (MIT). Its code asks for numpy 2, which RecBole cannot run with; its two data files do
not, and only they are read: ``pip install --no-deps wordllama==0.4.0.post1``.
Use: texts of items for the ranking models (``recgen.ranker.text_encoder: wordllama``). They share no space with any image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recgen.core.errors import UserError

NAME = "wordllama"
_VECTORS, _TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


def folder() -> Path | None:
    """Return where the package's files are, or None where it is not installed; nothing of it is imported."""
    specification = find_spec(NAME)
    places = [] if specification is None else list(specification.submodule_search_locations or [])
    return Path(places[0]) if places and (Path(places[0]) / _VECTORS).is_file() else None


class WordLlama:
    """Texts in, vectors out.

    Parameters
    ----------
    key
        Where the name was read from, for messages.

    Raises
    ------
    UserError
        Where the package is not installed.
    """

    dim = 256

    def __init__(self, key: str) -> None:
        place = folder()
        if place is None:
            raise UserError(
                key,
                found=f"{NAME}, and its package is not installed",
                expected="its vectors",
                todo="pip install --no-deps wordllama==0.4.0.post1",
            )
        self._place = place

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._place / _TOKENIZER))
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _vectors(self) -> np.ndarray:
        from safetensors.numpy import load_file

        (vectors,) = load_file(self._place / _VECTORS).values()
        return vectors.astype(np.float32)

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        """Return the mean of each text's token vectors, float32 ``[n, 256]``; zeros for a text without tokens."""
        found = np.zeros((len(sentences), self.dim), dtype=np.float32)
        for row, encoding in enumerate(
            self._tokenizer.encode_batch(list(sentences), add_special_tokens=False)
        ):
            if encoding.ids:
                found[row] = self._vectors[encoding.ids].mean(axis=0)
        return found
