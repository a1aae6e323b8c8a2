"""Batches that halve when memory runs out, and the types of devices."""

from __future__ import annotations

import pytest
import torch

from recgen.core.batching import Batcher, is_out_of_memory
from recgen.core.device import choose_device, encoder_type, working_type
from recgen.core.errors import UserError


class Machine:
    """Holds so many rows; squares them."""

    def __init__(self, room: int, error: BaseException) -> None:
        self.room, self.error, self.tried = room, error, []

    def __call__(self, rows):
        self.tried.append(len(rows))
        if len(rows) > self.room:
            raise self.error
        return [row**2 for row in rows]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_a_batch_is_halved_until_it_fits_and_the_size_is_remembered(error):
    batcher, machine = Batcher(), Machine(3, error)
    found = [value for block in batcher.map("squares", range(10), 8, machine) for value in block]
    assert found == [n**2 for n in range(10)]
    assert machine.tried == [8, 4, 2, 2, 2, 2, 2]
    assert batcher.size("squares", 8) == 2 and batcher.size("others", 8) == 8
    machine.tried.clear()
    list(batcher.map("squares", range(4), 8, machine))
    assert machine.tried == [2, 2], "what did not fit is not tried again"


def test_a_row_that_does_not_fit_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match=r"drawing, one at a time.*CUDA out of memory.*offload"):
        list(Batcher().map("drawing", range(3), 2, Machine(0, torch.OutOfMemoryError("CUDA out of memory"))))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"):
        list(Batcher().map("drawing", range(3), 2, Machine(0, RuntimeError("a shape is wrong"))))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_types_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert (choose_device(True), choose_device(False)) == ("cuda", "cpu")
    assert working_type("auto", "cuda") == torch.float16 and working_type("auto", "cpu") == torch.float32
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: not including_emulation
    )
    assert working_type("auto", "cuda") == torch.bfloat16 and working_type("fp16", "cuda") == torch.float16
    assert encoder_type("auto", "cuda") == torch.float16 and encoder_type("float32", "cuda") == torch.float32
    assert encoder_type("bf16", "cpu") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(True) == "mps" and working_type("auto", "mps") == torch.float16, (
        "no MPS here, so no bf16"
    )
