"""The one kind of error a user sees without a traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it and exits with status 2.

    Parameters
    ----------
    where
        The file, key, row or item that is wrong.
    found
        What is there.
    expected
        What should be there.
    todo
        What to do about it, in one imperative sentence.
    """

    def __init__(self, where: str, *, found: str, expected: str, todo: str = "") -> None:
        self.where, self.found, self.expected, self.todo = where, found, expected, todo
        message = f"{where}: found {found}; expected {expected}."
        super().__init__(f"{message} {todo}" if todo else message)

    def __reduce__(self) -> tuple:
        return _rebuild, (self.where, self.found, self.expected, self.todo)


def _rebuild(where: str, found: str, expected: str, todo: str) -> UserError:
    return UserError(where, found=found, expected=expected, todo=todo)


def of_machine(error: BaseException) -> UserError | None:
    """Return what a full or read-only disk, or too little memory, is to the user; None for any other error.

    What a plugin ran into counts as well: an error is asked for its causes.
    """
    if error.__cause__ is not None and not isinstance(error, OSError | MemoryError):
        return of_machine(error.__cause__)
    if isinstance(error, MemoryError):
        return UserError(
            "recgen",
            found="no memory left",
            expected="enough for one task, see recgen plan",
            todo="Lower recgen.workers or a batch_size; what is finished is not done again.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return UserError(
            str(error.filename or "the disk"),
            found=(error.strerror or "no space left").lower(),
            expected="a disk with room that can be written to",
            todo="Make room or give another folder with --out; the same command goes on where it stopped.",
        )
    return None


def brief(error: BaseException) -> str:
    """Return an error's kind and the first line of what it says, at most 300 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "did you mean X?" for the valid name closest to `name`, or the empty string."""
    match = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}?" if match else ""


def without_credentials(text: str) -> str:
    """Return a text in which every URL has lost its ``user:password@``.

    >>> without_credentials("see https://me:secret@host/v1")
    'see https://host/v1'
    """
    return re.sub(r"//[^/?#\s]*@", "//", text)
