"""An OpenAI-compatible chat service: asked in parallel, patiently, and never twice for the same answer."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from recgen.config.schema import Endpoint
from recgen.core.errors import UserError

logger = logging.getLogger("recgen")

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds between attempts: doubling, unless the service says how long


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
        self._url = f"{settings.url.rstrip('/')}/chat/completions"
        self._headers = {}
        if settings.api_key_env is not None:
            secret = os.environ.get(settings.api_key_env, "").strip()
            if not secret:
                raise UserError(
                    f"{self._configured}.api_key_env",
                    found=f"nothing in the environment variable {settings.api_key_env}",
                    expected="the key of the service",
                    todo=f"Set {settings.api_key_env}, or set the key to null for a service without keys.",
                )
            self._headers["Authorization"] = f"Bearer {secret}"
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
            keep(prompt, reply.text)
            with self._lock:
                self._replies = [
                    old + new for old, new in zip(self._replies, (1, reply.asked, reply.written), strict=True)
                ]

        try:
            with ThreadPoolExecutor(self.settings.workers) as pool:
                for future in [pool.submit(one, prompt) for prompt in prompts]:
                    future.result()
        finally:
            logger.info("  %s", self.bill())

    def bill(self) -> str:
        """Return a line that says how many answers came, of how many tokens, at what cost."""
        price, (answers, asked, written) = self.settings.price_per_million_tokens, self._replies
        line = f"{self.settings.model}: {answers} answers, {asked} tokens in, {written} tokens out"
        if not price.input and not price.output:
            return line
        return f"{line}, cost {(asked * price.input + written * price.output) / 1e6:.4f}"

    def _patiently(self, content: Any, max_tokens: int, stop: threading.Event) -> Reply:
        """Ask until there is an answer, waiting as long as the service says, else twice as long each time."""
        problem = ""
        for attempt in range(self.settings.retries + 1):
            if stop.is_set():
                break
            try:
                return self._once(content, max_tokens)
            except _FailedError as failed:
                problem = str(failed)
                if attempt < self.settings.retries:
                    pause = failed.wait if failed.wait is not None else _FIRST_WAIT * 2**attempt
                    self._wait(min(pause, _LONGEST_WAIT))
        raise UserError(
            f"{self._configured} {self._url}",
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
        try:
            response = requests.post(
                self._url,
                json=body,
                headers=self._headers,
                timeout=self.settings.timeout,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise _FailedError(f"no answer within {self.settings.timeout:g} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise _FailedError(f"no connection ({type(error).__name__})") from error
        except requests.RequestException as error:
            raise UserError(
                f"{self._configured}.url", found=f"{self._url!r} ({error})", expected="an http address"
            ) from error
        if response.status_code == 429 or response.status_code >= 500:
            raise _FailedError(f"status {response.status_code}", _pause(response))
        if response.status_code != 200:
            raise UserError(
                f"{self._configured} {self._url}",
                found=f"status {response.status_code}: {' '.join(response.text.split())[:200]}",
                expected="status 200",
                todo="Check url, model and api_key_env.",
            )
        return _reply(response)


class _FailedError(Exception):
    """An attempt that may succeed another time, and how long the service asks to wait."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def _pause(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header, which may be a number or a date; None without a readable one."""
    header = response.headers.get("Retry-After")
    try:
        return None if header is None else max(Retry().parse_retry_after(header), 0.0)
    except InvalidHeader:
        return None


def _reply(response: requests.Response) -> Reply:
    try:
        value = response.json()
        text = value["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError
        used = value.get("usage") or {}
        return Reply(text, int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _FailedError("an answer that is no chat completion") from error
