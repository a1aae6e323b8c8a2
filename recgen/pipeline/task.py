"""What a run's work is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    name, stage
        Its own name and its stage's.
    call
        "module:function" to call with the run and `arguments`; it returns the files it wrote. A name, so that torch, RecBole and
        diffusers are not imported to find that nothing is to be done.
    reads
        The settings and the identities of the files that it reads.
    after
        Names of the tasks whose results it reads.
    owns
        Files and folders, relative to the run's, that are removed before it starts anew.
    share
        "module:function" to call, as `call` is, in another process that has nothing else to do, to take a share of the work; it
        returns how much it did. Empty where there is no such thing.
    """

    name: str
    stage: str
    call: str
    reads: dict[str, Any]
    after: tuple[str, ...] = ()
    owns: tuple[str, ...] = ()
    arguments: tuple[Any, ...] = ()
    share: str = ""
