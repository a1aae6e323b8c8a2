"""Batches that halve when memory runs out. What a row becomes must not depend on the rows beside it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from recgen.core.errors import UserError
from recgen.core.machine import return_heap

logger = logging.getLogger("recgen")

T = TypeVar("T")
R = TypeVar("R")
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


class Batcher:
    """Works through rows in batches, and remembers by what is done how many rows memory holds.

    Examples
    --------
    >>> batcher = Batcher()
    >>> list(batcher.map("sums", range(5), 2, sum))
    [1, 5, 4]
    """

    def __init__(self) -> None:
        self._fits: dict[str, int] = {}

    def size(self, what: str, wanted: int) -> int:
        """Return how many rows a batch of `what` has: as many as wanted, or as many as have fitted."""
        return min(wanted, self._fits.get(what, wanted))

    def map(self, what: str, rows: Sequence[T], wanted: int, work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """Yield what `work` makes of each batch, in order.

        A batch for which memory does not suffice is tried again in halves, and later batches are no larger. `work` must leave
        nothing behind when it fails.

        Raises
        ------
        UserError
            If not even a single row fits.
        """
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.size(what, wanted)]
            done = self._try(what, batch, work)
            if done:
                start += len(batch)
                yield done[0]

    def _try(self, what: str, batch: Sequence[T], work: Callable[[Sequence[T]], R]) -> tuple[R, ...]:
        """Return what `work` made of a batch; nothing where memory ran out, and the next batch is to be half as long."""
        failed: str = ""
        try:
            return (work(batch),)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error)  # the error itself holds every tensor of the calls that it passed
        free_memory()
        if len(batch) == 1:
            raise UserError(
                f"{what}, one at a time",
                found=f"too little memory ({failed.splitlines()[0] if failed else 'MemoryError'})",
                expected="memory for one",
                todo="Set recgen.precision: bf16, recgen.memory.vae_tiling: true or recgen.memory.offload: model, or use a "
                "device with more memory. What is finished is kept.",
            )
        self._fits[what] = len(batch) // 2
        logger.warning(
            "%s: memory does not suffice for %d at once; %d now", what, len(batch), len(batch) // 2
        )
        return ()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the machine, has no memory left."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_memory() -> None:
    """Give back what nothing refers to any more, a GPU's cached blocks and the heap's among it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return_heap()
