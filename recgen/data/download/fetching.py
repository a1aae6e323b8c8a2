"""Fetches one image over HTTP from a server that may be slow, broken or hostile."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from PIL import Image

from recgen.core.errors import brief
from recgen.core.http import HttpClient, PrivateAddressError, is_public, retry_after
from recgen.core.version import __version__
from recgen.data.images import MAX_BYTES, BadImageError, read_image

_HEADERS = {
    "User-Agent": f"recgen/{__version__} (image downloader)",
    "Accept": "image/jpeg,image/png,image/webp,image/*;q=0.5",
    "Accept-Encoding": "identity",  # a compressed answer could unpack to any size
}
_STARTS = (b"\xff\xd8", b"\x89PNG", b"RIFF")  # JPEG, PNG, WebP
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 64 * 2**10
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CLIENTS = {allowed: HttpClient(_HEADERS, allowed) for allowed in (False, True)}


@dataclass(frozen=True)
class Limits:
    """What a download may cost.

    Attributes
    ----------
    workers, per_host
        Images under way at the same time, in all and from one host.
    max_bytes
        The largest image; a larger one is cut off as soon as that is known.
    timeout, deadline
        Seconds without a byte, and seconds in all, after which an attempt has failed.
    tries
        Attempts at an image in one run.
    pause, longest_pause
        Seconds before a second attempt, doubled before each further one; and the longest wait that a server's Retry-After may
        ask for: an image whose server asks for more is left for the next run.
    allow_private
        Whether a server, or where it redirects to, may be on this machine or in a private network.
    """

    workers: int = 16
    per_host: int = 4
    max_bytes: int = MAX_BYTES
    timeout: float = 20.0
    deadline: float = 120.0
    tries: int = 4
    pause: float = 1.0
    longest_pause: float = 120.0
    allow_private: bool = False


class FetchError(Exception):
    """An image that did not come.

    Attributes
    ----------
    for_good
        Whether another attempt would end the same: 404, another scheme, something that is no image.
    wait
        Seconds that the server asks to wait, None where it does not say.
    silent
        Whether the host did not answer at all.
    """

    def __init__(
        self, reason: str, for_good: bool = False, wait: float | None = None, silent: bool = False
    ) -> None:
        super().__init__(reason)
        self.for_good, self.wait, self.silent = for_good, wait, silent


def host_of(url: str, allow_private: bool = True) -> str:
    """Return a URL's host and port.

    Raises
    ------
    FetchError
        For anything that is not http or https; and, unless `allow_private`, for an address of this machine or a private network.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"not a URL ({error})", for_good=True) from error
    if parts.scheme not in ("http", "https") or not host:
        raise FetchError("not a http or https URL", for_good=True)
    if not allow_private and _is_private(host):
        raise _private(host)
    return f"{host}:{port or parts.scheme}"


def _is_private(host: str) -> bool:
    """Return whether a host is written as a private address; what a name stands for is seen when it is connected to."""
    try:
        return not is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return host.rstrip(".").endswith("localhost")


def _private(address: str) -> FetchError:
    return FetchError(f"{address[:80]} is an address of a private network", for_good=True)


def fetch(url: str, folder: Path, name: str, limits: Limits) -> Path:
    """Fetch an image, check that it decodes, and put it into `folder` under `name` and the ending of what it is.

    Raises
    ------
    FetchError
        For everything that a server or a URL can do.
    """
    host_of(url, limits.allow_private)
    temporary = folder / f".tmp-{name}"
    try:
        _receive(url, temporary, limits)
        place = folder / f"{name}{_kind(temporary)}"
        os.replace(temporary, place)
        return place
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _final(url: str, limits: Limits, end: float) -> Iterator[requests.Response]:
    """Follow redirects, each checked like the URL itself and its body left unread, and yield the last answer."""
    client = _CLIENTS[limits.allow_private]
    for _ in range(_MOST_REDIRECTS + 1):
        host_of(url, limits.allow_private)
        with client.exchange("GET", url, limits.timeout, end) as response:
            place = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or place is None:
                yield response
                return
        url = _next(url, place)
    raise FetchError(f"more than {_MOST_REDIRECTS} redirects", for_good=True)


def _next(url: str, place: str) -> str:
    """Return where a Location header points to; it may be relative, and in UTF-8, which http.client reads as Latin-1."""
    try:
        return urljoin(url, place.encode("latin-1", "replace").decode("utf-8", "replace").strip())
    except ValueError as error:
        raise FetchError(f"redirected to what is not a URL ({error})", for_good=True) from error


def _receive(url: str, path: Path, limits: Limits) -> None:
    end = time.monotonic() + limits.deadline
    try:
        with _final(url, limits, end) as response:
            _check_status(response)
            promised = _promised(response, limits)
            received = _write(response, path, limits, end)
    except PrivateAddressError as error:
        raise _private(str(error)) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as error:
        raise FetchError(f"not a http or https URL ({brief(error)})", for_good=True) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if time.monotonic() >= end:
            raise _too_late(limits) from error
        silent = isinstance(error, (requests.ConnectionError, requests.Timeout))
        raise FetchError(_cause(error), silent=silent) from error
    if received < (promised or 1):
        raise FetchError(f"{received} of {promised or 'some'} bytes")


def _write(response: requests.Response, path: Path, limits: Limits, end: float) -> int:
    """Write the body as it is sent to a file, and return how many bytes came."""
    received = 0
    with path.open("wb") as file:
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            if not received:
                _check_start(chunk, response)
            received += len(chunk)
            if received > limits.max_bytes:
                raise _too_large(limits)
            if time.monotonic() > end:
                raise _too_late(limits)
            file.write(chunk)
    return received


def _too_late(limits: Limits) -> FetchError:
    return FetchError(f"not finished after {limits.deadline:g} s")


def _cause(error: BaseException) -> str:
    """Return what went wrong in a few words: requests wraps the error that says it up to three times."""
    inner: Any = error
    while inner.args and isinstance(getattr(inner, "reason", inner.args[0]), Exception):
        inner = getattr(inner, "reason", inner.args[0])
    return brief(inner)[:200]


def _check_status(response: requests.Response) -> None:
    if response.status_code == 200:
        return
    again = response.status_code in _WORTH_ANOTHER_TRY
    wait = retry_after(response.headers.get("Retry-After")) if again else None
    raise FetchError(f"status {response.status_code}", for_good=not again, wait=wait)


def _promised(response: requests.Response, limits: Limits) -> int | None:
    """Return how many bytes the server says there are."""
    length = response.headers.get("Content-Length", "").strip().lstrip("0")
    if not length.isdecimal():
        return None
    if len(length) > 18 or int(length) > limits.max_bytes:
        raise _too_large(limits)
    return int(length)


def _too_large(limits: Limits) -> FetchError:
    return FetchError(f"more than {limits.max_bytes:,} bytes", for_good=True)


def _check_start(chunk: bytes, response: requests.Response) -> None:
    """Refuse what begins like no image, before the rest of it is received; what the server calls it does not count."""
    if any(chunk.startswith(start[: len(chunk)]) for start in _STARTS):
        return
    called = response.headers.get("Content-Type", "no type")[:80]
    raise FetchError(f"not a JPEG, PNG or WebP file; the server calls it {called}", for_good=True)


def _kind(path: Path) -> str:
    """Return the ending for an image that decodes."""
    try:
        read_image(path)
    except BadImageError as error:
        # what cannot be decoded may have been cut short on the way
        raise FetchError(str(error), for_good="decoded" not in str(error)) from error
    with Image.open(path, formats=list(_ENDINGS)) as image:
        return _ENDINGS[str(image.format)]
