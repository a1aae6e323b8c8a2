"""The commands; each calls one function, and nothing heavy is imported before one is chosen."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recgen.cli import completion as completing
from recgen.cli.data import data
from recgen.cli.options import (
    AT_LEAST_0,
    CONFIG,
    FORCE,
    SET,
    SHARE,
    SOME,
    UNTIL,
    Command,
    here,
    out_option,
    run_option,
    terminal_width,
)
from recgen.cli.serving import clicks, serve, work
from recgen.cli.survey import study, survey
from recgen.core.errors import UserError, of_machine
from recgen.core.version import __version__

if TYPE_CHECKING:
    from recgen.runs import Run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def recgen() -> None:
    """Personalised item images for RecBole, judged by the recommender itself."""


@recgen.command(cls=Command)
@CONFIG
@out_option()
@SET
@UNTIL
@FORCE
@click.option("--dry-run", is_flag=True, help="Say what would be done and what is done already; do nothing.")
def run(
    config: str,
    out: str | None,
    overrides: tuple[str, ...],
    until: str | None,
    force: str | None,
    dry_run: bool,
) -> None:
    """Run all stages, from a data set to a report. What is done already is skipped."""
    if dry_run:
        _echo_plan(config, out, overrides, until, force)
        return
    from recgen import api

    done = api.run(config, out, overrides, until, force)
    if until in (None, "report"):
        _echo_results(done)


def _echo_results(run: Run) -> None:
    from recgen.cli import listing

    click.echo(listing.results(run.metrics, terminal_width()))
    click.echo(f"\nThe report: {run.report}")


@recgen.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the YAML and the data set go; here by default.",
)
@click.option("--images", type=click.Path(path_type=Path), help="A folder or zip of images named by item id.")
def init(folder: Path, out: Path, images: Path | None) -> None:
    """Write a configuration for a folder of tables and images. It runs as it is."""
    from recgen.starter import start

    click.echo(start.init(folder, out, images))


@recgen.command(cls=Command)
@CONFIG
@out_option()
@SET
@UNTIL
@FORCE
@click.option(
    "--gpu",
    metavar="NAME",
    help="A GPU to estimate for: a100, h100, 4090, 3090, v100, a10, t4.",
    shell_complete=completing.gpus,
)
@click.option("--price", type=AT_LEAST_0, help="Price of an hour of the machine, in any currency.")
def plan(
    config: str,
    out: str | None,
    overrides: tuple[str, ...],
    until: str | None,
    force: str | None,
    gpu: str | None,
    price: float | None,
) -> None:
    """Say what a run would do and how long it would take. Nothing is done."""
    _echo_plan(config, out, overrides, until, force, gpu, price)


def _echo_plan(*arguments: Any) -> None:
    from recgen.pipeline import session
    from recgen.planning.plan import text

    click.echo(text(session.plan(*arguments)))


@recgen.command(cls=Command)
@CONFIG
@click.option(
    "--part", metavar="I/N", default="1/1", show_default=True, help="Which part, counted from 1: 3/64."
)
@out_option()
@SET
def generate(config: str, part: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Draw one part of a run's creatives. Its generators are fitted, and many parts may be drawn at once."""
    from recgen.pipeline import parts

    click.echo(parts.generate(config, parts.Part.parse(part), out, overrides))


@recgen.command(cls=Command)
@CONFIG
@out_option()
@SET
def collect(config: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Join the parts that `recgen generate` has drawn. What is missing is named."""
    from recgen.pipeline import parts

    click.echo(parts.collect(config, out, overrides))


@recgen.command()
@run_option("a run that is finished up to evaluate", ["config.yaml", "metrics.json"])
def show(folder: str) -> None:
    """Print what a run measured."""
    from recgen.cli import listing
    from recgen.runs import Run

    click.echo(listing.results(Run(folder).metrics, terminal_width()))


@recgen.command()
@run_option("a run with fitted generators")
@click.option("--user", required=True, help="A user's token.")
@click.option("--item", required=True, help="An item's token.")
@click.option(
    "--out", required=True, metavar="FILE.png", callback=here, help="The image; its recipe is inside."
)
@click.option("--generator", help="A generator of the run; its only one by default.")
def draw(folder: str, user: str, item: str, out: str, generator: str | None) -> None:
    """Draw an image of any item for any user."""
    from recgen import api

    click.echo(api.draw(folder, user, item, out, generator))


@recgen.command(cls=Command)
@run_option("a run over simulated users, with fitted generators")
@click.option("--rounds", type=SOME, help="Rounds, each after a training of the recommender.")
@click.option("--users", type=SOME, help="Users who take part.")
@click.option("--pages", type=SOME, help="Pages that a user opens in each round and arm.")
@click.option("--effect", type=SHARE, help="How much the image matters to a click.")
@click.option("--seeds", type=SOME, help="Repetitions of everything, each with a seed of its own.")
@SET
def market(folder: str, overrides: tuple[str, ...], **given: float | None) -> None:
    """Play an A/B test of the creatives with simulated users. They open pages and click."""
    from recgen import api
    from recgen.cli import listing

    told = {key: value for key, value in given.items() if value is not None}
    click.echo(listing.market(api.market(folder, overrides, **told)))


@recgen.command()
def generators() -> None:
    """List the installed generators and their settings."""
    from recgen.cli import listing

    click.echo(listing.generators())


@recgen.command()
def models() -> None:
    """List the installed ranking models and their settings."""
    from recgen.cli import listing

    click.echo(listing.models())


@recgen.command()
@run_option("a run that is finished up to evaluate")
@click.option(
    "--compare",
    multiple=True,
    metavar="DIR",
    help="Another run: write a page that puts the runs side by side.",
)
@click.option(
    "--out",
    metavar="FILE.html",
    callback=here,
    help="Where to write it; the run's own report.html, or compare.html, by default.",
)
def report(folder: str, compare: tuple[str, ...], out: str | None) -> None:
    """Write a run's report again."""
    from recgen import api

    click.echo(api.report_again(folder, compare, out))


@recgen.command("requests", cls=Command)
@CONFIG
@click.option("--to", required=True, metavar="DIR", help="The folder for the tables.")
@out_option()
@SET
def requests_(config: str, to: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Write which images a run asks for, for another program."""
    from recgen import external

    click.echo(external.write_requests(config, to, out, overrides))


@recgen.command(cls=Command)
@CONFIG
@click.option(
    "--creatives",
    required=True,
    multiple=True,
    metavar="[NAME=]DIR",
    help="A folder of images with a manifest.csv.",
)
@out_option("runs/<config name>-<names>")
@SET
def evaluate(config: str, creatives: tuple[str, ...], out: str | None, overrides: tuple[str, ...]) -> None:
    """Judge images made elsewhere as those of a generator."""
    from recgen import external
    from recgen.runs import Run

    _echo_results(Run(external.evaluate(config, creatives, out, overrides)))


@recgen.command()
@run_option("a run that is finished up to gate")
@click.option(
    "--to",
    required=True,
    metavar="DIR",
    help="RecBole's data_path, where the data set's folder is made.",
)
@click.option("--name", required=True, help="The data set's name.")
@click.option("--source", help="Whose images: a generator of the run, or ORI for the originals.")
@click.option("--images", is_flag=True, help="Copy the creatives too, with a manifest.")
@click.option("--all", "everything", is_flag=True, help="Take creatives that the gate refused as well.")
def export(folder: str, to: str, name: str, source: str | None, images: bool, everything: bool) -> None:
    """Write a RecBole data set with the creatives mixed in. They become part of its image features."""
    from recgen import export as exporting

    click.echo(exporting.export(folder, to, name, source, images, everything))


@recgen.command(cls=Command)
@CONFIG
@click.option(
    "--trials",
    required=True,
    type=SOME,
    help="Trials that the study is to have, over all workers and starts.",
)
@click.option(
    "--storage",
    metavar="URL",
    help="A database for many machines; a journal in the study's folder by default.",
)
@click.option("--workers", default=1, show_default=True, type=SOME, help="Processes to start.")
@click.option(
    "--out",
    metavar="DIR",
    help="The study's folder; runs/<config name>-tune by default.",
)
@SET
def tune(
    config: str, trials: int, storage: str | None, workers: int, out: str | None, overrides: tuple[str, ...]
) -> None:
    """Tune the generators' settings on validation. The winner is then tested, once."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "recgen tune", found="no Optuna", expected="it installed", todo="pip install 'recgen[tune]'"
        ) from error
    from recgen import tuning

    tuning.tune(config, trials, storage, workers, out, overrides)


@recgen.command()
@run_option("the run")
def verify(folder: str) -> None:
    """Compare every file of a run with its digest. What is damaged is made again by the next run."""
    from recgen import api

    click.echo(api.verify(folder))


@recgen.command()
@click.option("--run", "place", required=True, metavar="DIR", help="The folder or URL of the run.")
@click.option("--all", "everything", is_flag=True, help="Delete the whole run.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def clean(place: str, everything: bool, yes: bool) -> None:
    """Delete what no task of a run has on record, or the run. What that is is said first."""
    from recgen.pipeline import cleaning

    files = cleaning.everything(place) if everything else cleaning.leftovers(place)
    click.echo(cleaning.listed(files, place))
    if not files or not (yes or click.confirm("Delete them?")):
        return
    cleaning.delete(place, files, whole=everything)
    click.echo(f"{place}: deleted {len(files):,} files")


@recgen.command("completion")
@click.argument("shell", type=click.Choice(completing.SHELLS))
def completion_(shell: str) -> None:
    """Print what makes a shell complete recgen. It is to be evaluated: eval "$(recgen completion bash)"."""
    click.echo(completing.script(recgen, shell))


@recgen.command()
def doctor() -> None:
    """Say what is installed, what is missing, and what to do."""
    from recgen import doctor as examination

    click.echo(examination.examine())


for command in (data, serve, work, clicks, survey, study):
    recgen.add_command(command)


def main() -> None:
    """Run a command; exit with 0 when done, 2 for a mistake in what the user gave, 130 when interrupted, 1 for anything else."""
    # Threads that wait for work sleep instead of spinning: on cores shared with others a training was 20 times slower spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        sys.exit(recgen(prog_name="recgen", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        click.echo(f"recgen: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nrecgen: interrupted; the same command goes on where it stopped.", err=True)
        sys.exit(130)  # as shells have it for SIGINT
    except Exception as error:
        if (known := of_machine(error)) is not None:
            click.echo(f"recgen: {known}", err=True)
            sys.exit(2)
        log = getattr(error, "log", None) or _written(error)
        click.echo(f"recgen: {type(error).__name__}: {error}\nThe log has the details: {log}", err=True)
        sys.exit(1)


def _written(error: Exception) -> str:
    """Write the traceback of an error that no run's log has to a file of its own, and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="recgen-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    return file.name
