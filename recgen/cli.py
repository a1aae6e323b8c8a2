"""The commands; each calls one function, and nothing heavy is imported before one is chosen."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from recgen import __version__
from recgen.errors import UserError

_PATH = click.Path(path_type=Path)
_SOME = click.IntRange(min=1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def recgen() -> None:
    """Personalised item pictures for RecBole, judged by the recommender itself."""


@recgen.command()
@click.option("--config", required=True, help="A YAML file, or the name of one in recbole_configs.")
@click.option("--out", help="The run's folder; runs/<config name> by default.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, dotted: recgen.seed=7."
)
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Do this stage and what follows it again.")
def run(
    config: str, out: str | None, overrides: tuple[str, ...], until: str | None, force: str | None
) -> None:
    """Run all stages, from a data set to a report; what is done already is skipped."""
    from recgen import session

    session.run(config, out, overrides, until, force)


@recgen.command()
@click.option("--run", "folder", required=True, help="The folder of a finished run.")
@click.option("--compare", multiple=True, metavar="DIR", help="Another run to put beside it.")
def report(folder: str, compare: tuple[str, ...]) -> None:
    """Write a run's report again."""
    from recgen import session

    click.echo(session.report_again(folder, compare))


@recgen.command()
@click.option("--run", "folder", required=True, help="The folder of a run that is finished up to generate.")
@click.option("--to", required=True, help="RecBole's data_path, where the data set's folder is made.")
@click.option("--name", required=True, help="The data set's name.")
@click.option("--source", help="Whose pictures: a generator of the run, or ORI for the originals.")
@click.option("--pictures", is_flag=True, help="Copy the creatives too, with a manifest.")
def export(folder: str, to: str, name: str, source: str | None, pictures: bool) -> None:
    """Write a RecBole data set whose image features have the creatives mixed in."""
    from recgen import export as exporting

    click.echo(exporting.export(folder, to, name, source, pictures))


@recgen.command()
def doctor() -> None:
    """Say what is installed, what is here, and what to do about what is missing."""
    from recgen import doctor as examination

    click.echo(examination.examine())


@recgen.group()
def data() -> None:
    """Make data sets."""


@data.command()
@click.option("--out", required=True, help="The data set's folder; its name becomes the data set's.")
@click.option("--users", default=500, show_default=True)
@click.option("--items", default=600, show_default=True)
@click.option("--seed", default=0, show_default=True)
def simulate(out: str, users: int, items: int, seed: int) -> None:
    """Make a data set of users whose taste in pictures is known."""
    from recgen import session

    click.echo(session.simulate(out, users, items, seed))


@data.group()
def prepare() -> None:
    """Turn published raw files into a RecBole data set, with a report of what was dropped and why."""


def _raw_and_out(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that all of them have."""
    out = click.option("--out", required=True, type=_PATH, help="The data set's folder; its name becomes the data set's.")
    return click.option("--raw", required=True, type=_PATH, help="The folder of the raw files.")(out(command))


def _drawn(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that decide which users stay."""
    least = click.option("--least", default=3, show_default=True, help="Likes that a user needs.")
    seed = click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
    return click.option("--users", type=_SOME, help="Keep so many users, drawn at random.")(seed(least(command)))


@prepare.command()
@_raw_and_out
@_drawn
def pog(raw: Path, out: Path, **options: Any) -> None:
    """POG: user_data.txt and item_data.txt."""
    from recgen.data.convert import pog

    click.echo(pog.prepare(raw, out, **options).summary())


def main() -> None:
    """Run a command; exit with 0 when done, 2 for a mistake in what the user gave, 1 for anything else."""
    # Threads that wait for work sleep instead of spinning: on cores shared with others a training was 20 times slower spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        recgen()
    except UserError as error:
        click.echo(f"recgen: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("recgen: interrupted; the same command goes on where it stopped.", err=True)
        sys.exit(1)
    except Exception as error:
        log = getattr(error, "log", None) or _written(error)
        click.echo(f"recgen: {type(error).__name__}: {error}\nThe log has the details: {log}", err=True)
        sys.exit(1)


def _written(error: Exception) -> str:
    """Write the traceback of an error that no run's log has to a file of its own, and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="recgen-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    return file.name
