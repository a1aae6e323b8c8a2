"""REBECA's baselines and its ablation as generators of their own names, so that one run can compare them.

Each is REBECA with other defaults (`generators.rebeca.settings.Settings` has the table).
"""

from __future__ import annotations

from typing import Literal

from generators.rebeca import REBECA
from generators.rebeca.settings import Settings


class PromptSettings(Settings):
    """Defaults of T0: no image condition, no prompt."""

    condition: Literal["prior", "none"] = "none"


class ShortPromptSettings(PromptSettings):
    """Defaults of T1: no image condition, the short prompt."""

    prompt: Literal["T0", "T1", "T2"] = "T1"


class LongPromptSettings(PromptSettings):
    """Defaults of T2: no image condition, the long prompt."""

    prompt: Literal["T0", "T1", "T2"] = "T2"


class NoUESettings(Settings):
    """Defaults of REBECA-NoUE: a prior that is not told the user."""

    user_embeddings: bool = False


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
