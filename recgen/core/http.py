"""One HTTP exchange with a server that may be slow, broken or hostile.

No redirect is followed, no body is read and nothing is unpacked unless the caller does it; a deadline ends also a server that
sends its headers byte by byte. (`requests.Session.send` reads and unpacks the whole body of a redirect, even of one it is told
not to follow; here its adapter, which holds the pool of connections, is asked directly.)
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_clock = threading.local()  # `end`: when the exchange under way on this thread must be over


class PrivateAddressError(Exception):
    """A server at an address of this machine or of a private network."""


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the open internet: not loopback, private, link-local, multicast or reserved.

    >>> is_public("127.0.0.1"), is_public("::ffff:10.0.0.1"), is_public("1.1.1.1")
    (False, False, True)
    """
    found = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = found if mapped is None else mapped
    return found.is_global and not found.is_multicast


class HttpClient:
    """Makes exchanges; each thread keeps its own connections open.

    Parameters
    ----------
    headers
        Sent with each request.
    allow_private
        Whether a server may be at a private or loopback address. Else the address that was really connected to is looked at
        before anything is sent; behind a proxy, which looks names up itself, only addresses written out in URLs can be.
    """

    def __init__(self, headers: Mapping[str, str], allow_private: bool = True) -> None:
        self._headers, self._allow_private = dict(headers), allow_private
        self._local = threading.local()

    @contextmanager
    def exchange(
        self, method: str, url: str, timeout: float, end: float, **content: Any
    ) -> Iterator[requests.Response]:
        """Send a request and yield the answer once its headers are there; its body is read from ``raw``, and at leaving dropped.

        Parameters
        ----------
        method, url, content
            As in `requests.Request`.
        timeout
            Seconds without a byte.
        end
            The moment, by `time.monotonic`, at which the headers must be there; for the body the caller looks at the clock.

        Raises
        ------
        PrivateAddressError
            For a server at a private address, where that is not allowed.
        requests.RequestException, ValueError
            For everything else; `requests.Timeout` when the deadline is over.
        """
        session = self._session()
        request = session.prepare_request(requests.Request(method, url, **content))
        assert request.url is not None
        options = session.merge_environment_settings(request.url, {}, True, None, None)
        left = end - time.monotonic()
        if left <= 0:
            raise requests.Timeout("out of time")
        _clock.end = end
        adapter = session.get_adapter(request.url)
        try:
            response = adapter.send(request, timeout=min(timeout, left), **options)
        except requests.RequestException as error:
            if time.monotonic() >= end:
                raise requests.Timeout("out of time") from error
            raise
        try:
            yield response
        finally:
            response.close()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers.update(self._headers)
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(_ANY if self._allow_private else _PUBLIC))
            self._local.session = session
        session = self._local.session
        assert isinstance(session, requests.Session)
        return session


class _Adapter(HTTPAdapter):
    """Uses connections that know the deadline and, where asked, refuse private addresses."""

    def __init__(self, pools: dict[str, Any]) -> None:
        self._pools = pools
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _ANY  # a proxy is the user's own, wherever it is
        return manager


def _until_deadline(connection: Any, receive: Callable[[], Any]) -> Any:
    """Receive an answer's headers; at the deadline the socket is shut down, which ends the wait for the next byte."""

    def shut() -> None:
        with suppress(OSError, AttributeError):  # it is closed already
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(_clock.end - time.monotonic(), 0.0), shut)
    timer.daemon = True
    timer.start()
    try:
        return receive()
    finally:
        timer.cancel()


def _checked(connected: socket.socket) -> socket.socket:
    address = connected.getpeername()[0]
    if is_public(address):
        return connected
    connected.close()
    raise PrivateAddressError(address)


class _Http(HTTPConnection):
    def getresponse(self) -> Any:
        return _until_deadline(self, super().getresponse)


class _Https(HTTPSConnection):
    def getresponse(self) -> Any:
        return _until_deadline(self, super().getresponse)


class _PublicHttp(_Http):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _PublicHttps(_Https):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


def _pools(http: type[HTTPConnection], https: type[HTTPSConnection]) -> dict[str, Any]:
    return {
        "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("Pool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


_ANY, _PUBLIC = _pools(_Http, _Https), _pools(_PublicHttp, _PublicHttps)


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None without a readable one.

    >>> retry_after("7"), retry_after("9" * 5000), retry_after("soon")
    (7.0, inf, None)
    """
    text = (value or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
