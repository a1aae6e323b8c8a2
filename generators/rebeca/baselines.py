"""REBECA's baselines and its ablation as generators of their own names, so that one run can compare them.

Each is REBECA with other defaults (`generators.rebeca.settings.Settings` has the table).
"""

from __future__ import annotations

from generators.rebeca.generator import REBECA
from generators.rebeca.settings import LongPromptSettings, NoUESettings, PromptSettings, ShortPromptSettings


class T0(REBECA):
    """The bare backbone (section 4.3)."""

    name = "t0"
    Config = PromptSettings


class T1(REBECA):
    """The backbone with a short quality prompt (section 4.3)."""

    name = "t1"
    Config = ShortPromptSettings


class T2(REBECA):
    """The backbone with a long quality prompt (section 4.3)."""

    name = "t2"
    Config = LongPromptSettings


class NoUE(REBECA):
    """REBECA without user embeddings (table 2)."""

    name = "noue"
    Config = NoUESettings
