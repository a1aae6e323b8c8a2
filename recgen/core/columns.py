"""Columns of strings that hold each different one once."""

from __future__ import annotations

from typing import Any

ROWS = 1_000_000
"""Rows of a text file to read at once: each value of them is an object of its own until equal ones are put together."""


def shared(column: Any, words: dict[str, str]) -> Any:
    """Return a pandas column's strings as an object array in which equal ones are the same object: 8 bytes a row, not 60.

    `words` holds the objects, and is added to.

    >>> import pandas as pd
    >>> words: dict[str, str] = {}
    >>> shared(pd.Series(["a", "b", "a"]), words).tolist(), list(words)
    (['a', 'b', 'a'], ['a', 'b'])
    """
    import numpy as np

    codes, found = _factorize(column)
    return np.array([words.setdefault(word, word) for word in found], dtype=object)[codes]


def numbered(column: Any, words: dict[str, int]) -> Any:
    """Return a pandas column's strings as their numbers in `words`, int32, in which new ones get the next.

    >>> import pandas as pd
    >>> words = {"b": 0}
    >>> numbered(pd.Series(["a", "b", "a"]), words).tolist(), words
    ([1, 0, 1], {'b': 0, 'a': 1})
    """
    import numpy as np

    codes, found = _factorize(column)
    return np.array([words.setdefault(word, len(words)) for word in found], dtype=np.int32)[codes]


def _factorize(column: Any) -> tuple[Any, Any]:
    import pandas as pd

    codes, found = pd.factorize(column, use_na_sentinel=False)
    return codes, found
