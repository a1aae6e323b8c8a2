"""What a shell completes beside commands and options: configurations, stages, GPUs and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def configurations(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a configuration: the shipped names, then files."""
    from recgen.config.loader import shipped

    found = _beginning(shipped(), typed)
    return [*found, CompletionItem(typed, type="file")]


def stages(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a stage."""
    from recgen.pipeline.tasks import STAGES

    return _beginning(STAGES, typed)


def gpus(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a GPU that `recgen plan` knows."""
    from recgen.planning.machines import GPUS

    return _beginning(GPUS, typed)


def settings(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a key of the `recgen:` block, for ``--set``."""
    from recgen.config.describe import keys
    from recgen.config.schema import Settings

    return _beginning((f"{key.name}=" for key in keys(Settings, "recgen.")), typed)


def _beginning(words: Iterable[str], typed: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(typed)]


def script(command: Any, shell: str) -> str:
    """Return the lines that make a shell complete `recgen`: to be evaluated by it."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(command, {}, "recgen", "_RECGEN_COMPLETE").source()
