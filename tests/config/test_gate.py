"""The keys of `recgen.gate`."""

from __future__ import annotations

import pytest

from recgen.config.loader import load_config
from recgen.core.errors import UserError


def gate(*changes: str):
    return load_config("simulated", [f"recgen.gate.{change}" for change in changes]).settings.gate


def test_there_is_a_gate_unless_the_yaml_has_none():
    assert gate().attributes == 0.5 and gate("attributes=null", "models=[]").attributes is None
    assert gate("safety=own.checks:nsfw").safety == "own.checks:nsfw"
    assert load_config("simulated", ["recgen.gate=null"]).settings.gate is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("attributes=1.2", "recgen.gate.attributes"),
        ("text=-0.1", "recgen.gate.text"),
        ("models=[oracle]", "'judge', 'verifier' or 'reward'"),
        ("safety=open_nfsw", "auto, open_nsfw, none, or package.module:function"),
        ("floor=1", "an unknown key"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    with pytest.raises(UserError, match=said):
        gate(change)
