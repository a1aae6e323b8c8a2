"""An OpenAI-compatible chat service: asked in parallel, patiently, and never twice for the same answer."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import requests
import urllib3

from recgen.config.text_models import Endpoint
from recgen.core.errors import UserError
from recgen.core.http import HttpClient, retry_after

logger = logging.getLogger("recgen")

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds between attempts: doubling, unless the service says how long
_PATIENCE = 5  # an attempt is over after so many timeouts, however slowly its bytes come
_MOST_BYTES = 4 * 2**20  # of an answer
_CHUNK = 64 * 2**10
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidProxyURL,
    UnicodeError,
)
_MOST_TOKENS = 10**9  # that a service can say it has counted


class Reply(NamedTuple):
    """An answer, and the tokens of the question and of the answer as the service counts them."""

    text: str
    asked: int
    written: int


class ChatService:
    """Asks an endpoint.

    Parameters
    ----------
    settings
        The endpoint.
    key
        Where it was configured, for messages.
    wait
        Called with the seconds to wait before another attempt.

    Raises
    ------
    UserError
        When the environment variable that should hold the key holds none.
    """

    def __init__(
        self,
        settings: Endpoint,
        key: str = "recgen.keywords.endpoint",
        wait: Callable[[float], Any] = time.sleep,
    ) -> None:
        self.settings, self._configured, self._wait = settings, key, wait
        self._address, self._url = _addresses(settings)
        key_value = settings.api_key(key)
        user, password = _credentials(settings.url)
        basic = base64.b64encode(f"{user}:{password}".encode()).decode() if user or password else ""
        self._secrets = _forms(key_value, password, basic)
        self._authorization = f"Bearer {key_value}" if key_value else f"Basic {basic}" if basic else ""
        self._client = HttpClient(
            {"Accept-Encoding": "identity"}
        )  # a compressed answer could unpack to any size
        self._lock, self._replies = threading.Lock(), [0, 0, 0]

    def ask(
        self,
        prompts: Sequence[str],
        max_tokens: int,
        keep: Callable[[str, str], Any],
        message: Callable[[str], Any] = str,
    ) -> None:
        """Ask for an answer to each prompt, a few at a time, and call `keep` with the prompt and each answer as it comes.

        `message` makes of a prompt what is sent as the message's content: the prompt, or parts of text and images.

        Raises
        ------
        UserError
            When the service refuses, or when all attempts for one prompt have failed; what came before has been kept.
        """
        stop = threading.Event()

        def one(prompt: str) -> None:
            if stop.is_set():
                return
            try:
                reply = self._patiently(message(prompt), max_tokens, stop)
            except BaseException:
                stop.set()  # the others would meet the same, and cost
                raise
            if reply is None:
                return
            keep(prompt, reply.text)
            with self._lock:
                self._replies = [
                    old + new for old, new in zip(self._replies, (1, reply.asked, reply.written), strict=True)
                ]

        try:
            with ThreadPoolExecutor(self.settings.workers) as pool:
                futures = [pool.submit(one, prompt) for prompt in prompts]
                try:
                    for future in futures:
                        future.result()
                except BaseException:  # an interruption too: the workers end after the attempts under way
                    stop.set()
                    raise
        finally:
            logger.info("  %s", self.bill())

    def bill(self) -> str:
        """Return a line that says how many answers came, of how many tokens, at what cost."""
        price, (answers, asked, written) = self.settings.price_per_million_tokens, self._replies
        line = f"{self.settings.model}: {answers} answers, {asked} tokens in, {written} tokens out"
        if not price.input and not price.output:
            return line
        return f"{line}, cost {(asked * price.input + written * price.output) / 1e6:.4f}"

    def _patiently(self, content: Any, max_tokens: int, stop: threading.Event) -> Reply | None:
        """Ask until there is an answer, waiting as long as the service says, else twice as long each time; None once `stop` is
        set.
        """
        problem = ""
        for attempt in range(self.settings.retries + 1):
            if stop.is_set():
                return None
            try:
                return self._once(content, max_tokens)
            except _FailedError as failed:
                problem = str(failed)
                if attempt < self.settings.retries:
                    pause = failed.wait if failed.wait is not None else _FIRST_WAIT * 2**attempt
                    self._wait(min(pause, _LONGEST_WAIT))
        raise UserError(
            f"{self._configured} {self._address}",
            found=f"{problem}, {self.settings.retries + 1} times",
            expected="answers",
            todo="Run again later: the answers so far are kept.",
        )

    def _once(self, content: Any, max_tokens: int) -> Reply:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        end = time.monotonic() + _PATIENCE * self.settings.timeout
        try:
            # the credentials are set by a function, so that no .netrc takes their place
            with self._client.exchange(
                "POST", self._url, self.settings.timeout, end, json=body, auth=self._authorize
            ) as response:
                return self._read(response, end)
        except requests.Timeout as error:
            raise _FailedError(f"no answer within {self.settings.timeout:g} s") from error
        except _NO_ADDRESS as error:
            raise UserError(
                f"{self._configured}.url",
                found=f"{self._address!r} ({self._redacted(str(error))})",
                expected="an http address",
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise _FailedError(f"no connection ({type(error).__name__})") from error

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    def _read(self, response: requests.Response, end: float) -> Reply:
        """Return what the answer says, without the service's key where it echoes it."""
        text = _text(response, end)
        if response.status_code == 429 or response.status_code >= 500:
            wait = retry_after(response.headers.get("Retry-After"))
            raise _FailedError(f"status {response.status_code}", wait)
        if response.status_code != 200:
            raise UserError(
                f"{self._configured} {self._address}",
                found=f"status {response.status_code}: {' '.join(self._redacted(text).split())[:200]}",
                expected="status 200",
                todo="Check url, model and api_key_env.",
            )
        reply = _reply(text)
        return reply._replace(text=self._redacted(reply.text))

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _addresses(settings: Endpoint) -> tuple[str, str]:
    """Return the address of chat completions as messages show it, and as it is asked, with the query that the base may have."""
    base = settings.public_url
    try:
        parts = urlsplit(base)
    except ValueError:  # said when it is asked
        return base, base
    path = f"{parts.path.rstrip('/')}/chat/completions"
    shown = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return shown, urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _credentials(url: str) -> tuple[str, str]:
    """Return the user and the password of a URL, empty where it has none."""
    try:
        parts = urlsplit(url)
        return unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return "", ""


def _forms(*secrets: str) -> list[str]:
    """Return secrets in the forms in which a service may echo them, the longest first."""
    forms = {
        form
        for secret in secrets
        if secret
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])
    }
    return sorted(forms, key=len, reverse=True)


class _FailedError(Exception):
    """An attempt that may succeed another time, and how long the service asks to wait."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def _text(response: requests.Response, end: float) -> str:
    """Receive the body, which may be neither compressed, nor large, nor late."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise _FailedError("a compressed answer, which was not asked for")
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > _MOST_BYTES:
            raise _FailedError(f"an answer of more than {_MOST_BYTES:,} bytes")
        if time.monotonic() > end:
            raise requests.Timeout
    return body.decode("utf-8", errors="replace")


def _reply(body: str) -> Reply:
    try:
        value = json.loads(body)
        text = value["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError
        text.encode()  # half of a surrogate pair is no text, and cannot be kept
        used = value.get("usage") or {}
        asked, written = (int(used.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        if not (0 <= asked <= _MOST_TOKENS and 0 <= written <= _MOST_TOKENS):
            raise ValueError
        return Reply(text, asked, written)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _FailedError("an answer that is no chat completion") from error
