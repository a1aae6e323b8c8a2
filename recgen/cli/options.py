"""What several commands share: options that take many words, renamed options, and the ones for a configuration."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from recgen.cli import completion
from recgen.core.remote import is_url, on_this_machine


def _called(name: str, kind: click.ParamType) -> click.ParamType:
    """Give a type the name that stands for its values in the commands' help."""
    kind.name = name
    return kind


SOME = _called("n", click.IntRange(min=1))
AT_LEAST_0 = _called("number", click.FloatRange(0))
ABOVE_0 = _called("number", click.FloatRange(0, min_open=True))
SHARE = _called("share", click.FloatRange(0, 1))

FORMER_OPTIONS = {
    "--least": "--min-likes",
    "--pictures": "--images",
    "--imaged": "--with-images-only",
    "--pictured": "--with-images-only",
}
"""Options of earlier versions; they work for one version more, with a note."""


class Command(click.Command):
    """A command that takes an option's former name, and of which some options take every word up to the next option.

    ``--set a=1 b=2`` is ``--set a=1 --set b=2``.
    """

    _lists = ("--set", "--answers", "--creatives")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spread lists and rename options before click sees them."""
        return super().parse_args(ctx, self._spread(self._renamed(args)))

    def _renamed(self, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in parameter.opts}
        found = []
        for word in args:
            name, equals, value = word.partition("=")
            today = FORMER_OPTIONS.get(name)
            if today in own:
                click.echo(f"recgen: {name} is called {today} now.", err=True)
                word = f"{today}{equals}{value}"
            found.append(word)
        return found

    def _spread(self, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        for word in args:
            if word.startswith("-"):
                option = next(
                    (name for name in self._lists if word == name or word.startswith(f"{name}=")), ""
                )
            elif option and spread[-1] != option:
                spread.append(option)
            spread.append(word)
        return spread


CONFIG = click.option(
    "--config",
    required=True,
    metavar="YAML",
    help="A YAML file, or the name of one in recbole_configs.",
    shell_complete=completion.configurations,
)
UNTIL = click.option(
    "--until", metavar="STAGE", help="Stop after this stage.", shell_complete=completion.stages
)
FORCE = click.option(
    "--force",
    metavar="STAGE",
    help="Do this stage and what follows it again.",
    shell_complete=completion.stages,
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE ...",
    help="Override keys, dotted: recgen.seed=7 recgen.ragar.k=3.",
    shell_complete=completion.settings,
)


def run_option(
    what: str, names: Sequence[str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--run``, the folder or URL of a run that is as far as `what` says.

    Of a run at an URL the files called `names` are fetched, by default all that are finished; the command gets their folder.
    """

    def fetched(_: click.Context, __: click.Parameter, given: str) -> str:
        if not is_url(given):
            return given
        from recgen.pipeline.home import local

        return str(local(given, names))

    return click.option(
        "--run",
        "folder",
        required=True,
        metavar="DIR",
        help=f"The folder or URL of {what}.",
        callback=fetched,
    )


def here(_: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    """Check an option's value, which has to be a path of this machine's.

    Raises
    ------
    UserError
        If it is an URL.
    """
    if given is not None:
        on_this_machine(
            parameter.opts[0], given, "Write it to a path of this machine's, and copy it to the URL."
        )
    return given


def terminal_width() -> int:
    """Return the columns of the terminal that output goes to; 0 where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def out_option(
    name: str = "runs/<config name>",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--out``, a folder for the run, with its default."""
    return click.option("--out", metavar="DIR", help=f"The run's folder or URL; {name} by default.")
