"""How many threads networks take."""

from __future__ import annotations

import pytest

from recgen.config.loader import load_config
from recgen.core.machine import cores, threads
from recgen.pipeline.context import RunContext


@pytest.mark.parametrize(
    ("told", "expected"), [("3", 3), ("5,2", 5), ("", None), ("many", None), ("0", None)]
)
def test_the_users_own_number_is_kept(monkeypatch, told, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads() == (cores() if expected is None else expected)


def test_a_folder_keeps_the_number_it_was_begun_with(monkeypatch, tmp_path):
    """The order of a floating-point sum follows it: a run that is taken up on another machine goes on alike."""

    def found(folder: str, told: str, *overrides: str) -> int:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        settings = ["recgen.threads=null", "recgen.workers=1", *overrides]
        return RunContext(load_config("simulated", settings), tmp_path / folder).threads

    assert found("a", "3") == 3 and found("a", "5") == 3
    assert found("b", "5") == 5
    assert found("a", "5", "recgen.threads=2") == 2


def test_results_repeat_and_new_tensors_are_not_filled_for_it(tmp_path):
    import torch

    RunContext(load_config("simulated"), tmp_path).prepare_torch()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
