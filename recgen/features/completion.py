"""Answers of language models to prompts, each asked for once: kept on disk as it comes, whoever gives it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from recgen.config.text_models import Endpoint
from recgen.core.errors import UserError
from recgen.core.io import digest
from recgen.core.progress import show

logger = logging.getLogger("recgen")

CACHE = "answers.sqlite"
_BLOCK = 512  # prompts of which a kill can cost a local model's answers

Keep = Callable[[Sequence[str], Sequence[str]], None]
"""Takes some prompts and their answers as soon as they are there."""
Answerer = Callable[[Sequence[str], Keep], None]
"""Answers prompts and hands the answers to `Keep`, in any order and from any thread."""


class Completer(Protocol):
    """What is asked of a local language model; see `recgen.features.language.LanguageModel.complete`."""

    def complete(self, prompts: Sequence[str], max_new_tokens: int, /) -> list[str]: ...


class CompletionCache:
    """Answers on disk by model and prompt, in one SQLite file; each is safe from a kill as soon as it is there.

    Parameters
    ----------
    path
        The file; it is made when it is not there.
    model
        What identifies the model that answers.
    """

    def __init__(self, path: Path, model: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._model, self._lock = model, threading.Lock()
        try:
            self._file = sqlite3.connect(path, timeout=60, check_same_thread=False)
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, prompt TEXT, answer TEXT)"
            )
        except sqlite3.DatabaseError as error:
            raise UserError(
                str(path), found=f"a file that is none of answers ({error})", expected="one that recgen wrote"
            ) from error

    def get(self, prompt: str) -> str | None:
        """Return the answer to a prompt, or None where there is none yet."""
        with self._lock:
            row = self._file.execute(
                "SELECT answer FROM answers WHERE key = ?", (self._key(prompt),)
            ).fetchone()
        return None if row is None else row[0]

    def put(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """Keep the answers to some prompts."""
        rows = [(self._key(prompt), prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        with self._lock, self._file:
            self._file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _key(self, prompt: str) -> str:
        return digest([self._model, prompt])


def complete_missing(
    prompts: Sequence[str],
    cache: CompletionCache,
    answer: Answerer,
    what: str,
    stage: str = "features",
) -> dict[str, str]:
    """Return the answer to each prompt: kept ones from the cache, the others from `answer`, which the cache then keeps.

    Parameters
    ----------
    prompts
        What is asked, each once.
    cache
        Keeps the answers; it is closed at the end, also where `answer` raises.
    answer
        Asked for what is missing, and not called where nothing is.
    what
        What the answers are, such as ``keywords``, for the log.
    stage
        The stage that asks, for the same.
    """
    try:
        missing = [prompt for prompt in prompts if cache.get(prompt) is None]
        there, done, lock = len(prompts) - len(missing), [0], threading.Lock()

        def keep(some: Sequence[str], answers: Sequence[str]) -> None:
            cache.put(some, answers)
            with lock:
                done[0] += len(some)
                show(f"{stage}: {what}", done[0], len(missing))

        if there:
            logger.info("  %s: %d of %d answers are there already", what, there, len(prompts))
        if missing:
            answer(missing, keep)
        return {prompt: cache.get(prompt) or "" for prompt in prompts}
    finally:
        cache.close()


def by_model(model: Completer, max_tokens: int) -> Answerer:
    """Return what answers with a local language model, each answer of at most `max_tokens` tokens."""

    def answer(prompts: Sequence[str], keep: Keep) -> None:
        for start in range(0, len(prompts), _BLOCK):
            block = prompts[start : start + _BLOCK]
            keep(block, model.complete(block, max_tokens))

    return answer


def by_service(
    endpoint: Endpoint, max_tokens: int, where: str, message: Callable[[str], Any] = str
) -> Answerer:
    """Return what answers with a chat service; see `recgen.features.endpoint.ChatService` for `where` and `message`."""

    def answer(prompts: Sequence[str], keep: Keep) -> None:
        from recgen.features.endpoint import ChatService

        ChatService(endpoint, where).ask(
            prompts, max_tokens, lambda prompt, text: keep([prompt], [text]), message
        )

    return answer
