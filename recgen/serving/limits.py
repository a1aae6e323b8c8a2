"""Who may ask, and how often: API keys and token buckets."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path

from recgen.core.errors import UserError

_FORGOTTEN = 10_000  # callers whose buckets are kept; of more, those that are full are forgotten


class Keys:
    """The API keys that are accepted; only their SHA-256 is kept.

    Parameters
    ----------
    keys
        The keys; none lets everybody in.
    """

    def __init__(self, keys: list[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @classmethod
    def read(cls, path: str | None) -> Keys:
        """Read a file with a key a line; blank lines and lines that begin with # do not count.

        Raises
        ------
        UserError
            If there is no such file, no key in it, or one that no header can carry.
        """
        if path is None:
            return cls([])
        expected = "a file with an API key a line, of ASCII characters"
        if not Path(path).is_file():
            raise UserError(f"--keys {path}", found="no such file", expected=expected)
        lines = [line.strip() for line in Path(path).read_bytes().splitlines()]
        keys = [line for line in lines if line and not line.startswith(b"#")]
        if not keys or not all(key.isascii() for key in keys):
            found = "a key with other characters" if keys else "no key in it"
            raise UserError(f"--keys {path}", found=found, expected=expected)
        return cls([key.decode("ascii") for key in keys])

    @property
    def asked(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests)

    def accepts(self, key: str | None) -> bool:
        """Return whether a key is one of them; every one is compared, in a time that says nothing about it."""
        if not self.asked:
            return True
        given = hashlib.sha256((key or "").encode()).digest()
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        return any(matches)


class RateLimit:
    """A token bucket for each caller: so many requests a second, and as many at once after a pause. To be asked from one thread.

    Parameters
    ----------
    rate
        Requests a second; 0 for no limit.
    clock
        Seconds that only grow.

    Examples
    --------
    >>> now = [0.0]
    >>> limit = RateLimit(2, lambda: now[0])
    >>> [limit.wait("a") for _ in range(3)], limit.wait("b")
    ([0.0, 0.0, 0.5], 0.0)
    >>> now[0] = 0.5
    >>> limit.wait("a")
    0.0
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str) -> float:
        """Count a request; return 0, or where it is one too many after how many seconds the next one is let in."""
        if not self.rate:
            return 0.0
        now, most = self._clock(), max(self.rate, 1.0)
        left, since = self._left.get(caller, (most, now))
        left = min(most, left + (now - since) * self.rate)
        allowed = left >= 1
        self._left[caller] = (left - 1 if allowed else left, now)
        if len(self._left) > _FORGOTTEN:
            full = [each for each, (some, at) in self._left.items() if some + (now - at) * self.rate >= most]
            for each in full:
                del self._left[each]
        return 0.0 if allowed else (1 - left) / self.rate
