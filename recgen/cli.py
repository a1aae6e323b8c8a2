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
from recgen.core.errors import UserError

_PATH = click.Path(path_type=Path)
_SOME, _POSITIVE = click.IntRange(min=1), click.FloatRange(0, min_open=True)


class _Listing(click.Command):
    """A command of which some options take every word up to the next option: `--set a=1 b=2` is `--set a=1 --set b=2`."""

    _lists = ("--set", "--answers", "--creatives")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
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
        return super().parse_args(ctx, spread)


_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE ...",
    help="Override keys, dotted: recgen.seed=7 recgen.ragar.k=3.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def recgen() -> None:
    """Personalised item images for RecBole, judged by the recommender itself."""


@recgen.command(cls=_Listing)
@click.option("--config", required=True, help="A YAML file, or the name of one in recbole_configs.")
@click.option("--out", help="The run's folder; runs/<config name> by default.")
@_SET
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Do this stage and what follows it again.")
def run(
    config: str, out: str | None, overrides: tuple[str, ...], until: str | None, force: str | None
) -> None:
    """Run all stages, from a data set to a report; what is done already is skipped."""
    from recgen import api as session

    session.run(config, out, overrides, until, force)


@recgen.command()
@click.option("--run", "folder", required=True, help="The folder of a finished run.")
@click.option("--compare", multiple=True, metavar="DIR", help="Another run to put beside it.")
def report(folder: str, compare: tuple[str, ...]) -> None:
    """Write a run's report again."""
    from recgen import api as session

    click.echo(session.report_again(folder, compare))


@recgen.command("requests", cls=_Listing)
@click.option("--config", required=True, help="A YAML file, or the name of one in recbole_configs.")
@click.option("--to", required=True, help="The folder for the tables.")
@click.option("--out", help="The run's folder; runs/<config name> by default.")
@_SET
def requests_(config: str, to: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Write what images a run asks for, as tables for another program."""
    from recgen import external

    click.echo(external.write_requests(config, to, out, overrides))


@recgen.command(cls=_Listing)
@click.option("--config", required=True, help="A YAML file, or the name of one in recbole_configs.")
@click.option(
    "--creatives",
    required=True,
    multiple=True,
    metavar="[NAME=]DIR",
    help="A folder of images with a manifest.csv.",
)
@click.option("--out", help="The run's folder; runs/<config name>-<names> by default.")
@_SET
def evaluate(config: str, creatives: tuple[str, ...], out: str | None, overrides: tuple[str, ...]) -> None:
    """Judge images made elsewhere as those of a generator."""
    from recgen import external

    external.evaluate(config, creatives, out, overrides)


@recgen.command()
@click.option("--run", "folder", required=True, help="The folder of a run that is finished up to generate.")
@click.option("--to", required=True, help="RecBole's data_path, where the data set's folder is made.")
@click.option("--name", required=True, help="The data set's name.")
@click.option("--source", help="Whose images: a generator of the run, or ORI for the originals.")
@click.option("--images", is_flag=True, help="Copy the creatives too, with a manifest.")
def export(folder: str, to: str, name: str, source: str | None, images: bool) -> None:
    """Write a RecBole data set whose image features have the creatives mixed in."""
    from recgen import export as exporting

    click.echo(exporting.export(folder, to, name, source, images))


@recgen.command(cls=_Listing)
@click.option("--config", required=True, help="A YAML file, or the name of one in recbole_configs.")
@click.option("--trials", required=True, type=_SOME, help="Trials in the end, over all workers and starts.")
@click.option(
    "--storage",
    metavar="URL",
    help="A database for many machines; a journal in the study's folder by default.",
)
@click.option("--workers", default=1, show_default=True, type=_SOME, help="Processes to start.")
@click.option("--out", help="The study's folder; runs/<config name>-tune by default.")
@_SET
def tune(
    config: str, trials: int, storage: str | None, workers: int, out: str | None, overrides: tuple[str, ...]
) -> None:
    """Look for better settings of the generators on validation, then test the winner once."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "recgen tune", found="no Optuna", expected="it installed", todo="pip install 'recgen[tune]'"
        ) from error
    from recgen import tuning

    tuning.tune(config, trials, storage, workers, out, overrides)


@recgen.group()
def study() -> None:
    """Ask people which images appeal to them."""


@study.command()
@click.option("--run", "folder", required=True, help="The folder of a run that is finished up to generate.")
@click.option("--out", required=True, metavar="FILE.html", help="The questionnaire.")
@click.option("--items", type=_SOME, default=8, show_default=True, help="How many questions.")
@click.option("--source", "sources", multiple=True, help="Whose images; all generators and ORI by default.")
@click.option("--seed", default=0, show_default=True, help="Seed of which requests are asked about.")
def make(folder: str, out: str, items: int, sources: tuple[str, ...], seed: int) -> None:
    """Write a questionnaire: one HTML file, shuffled, that does not say whose an image is."""
    from recgen.survey import page

    click.echo(page.make(folder, out, items, sources, seed))


@study.command(cls=_Listing)
@click.option("--run", "folder", required=True, help="The run that the questionnaire was made of.")
@click.option(
    "--answers", required=True, multiple=True, metavar="FILE ...", help="Files that respondents downloaded."
)
def score(folder: str, answers: tuple[str, ...]) -> None:
    """Say what the answers to a questionnaire say."""
    from recgen.survey import scoring

    click.echo(scoring.score(folder, answers))


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
    """Make a data set of users whose taste in images is known."""
    from recgen import api as session

    click.echo(session.simulate(out, users, items, seed))


@data.command()
@click.option(
    "--urls",
    required=True,
    type=_PATH,
    help="A CSV or Parquet file: item_id, url. prepare writes image_urls.csv.",
)
@click.option("--out", required=True, type=_PATH, help="The folder of images.")
@click.option(
    "--workers", type=_SOME, default=16, show_default=True, help="Images under way at the same time."
)
@click.option("--per-host", type=_SOME, default=4, show_default=True, help="Of these, from one host.")
@click.option("--timeout", type=_POSITIVE, default=20.0, show_default=True, help="Seconds without a byte.")
@click.option("--tries", type=_SOME, default=4, show_default=True, help="Attempts at an image in one run.")
@click.option(
    "--max-mib", type=_POSITIVE, default=64.0, show_default=True, help="The largest image; 64 are read."
)
@click.option("--allow-private", is_flag=True, help="Also fetch from this machine and private networks.")
def download(urls: Path, out: Path, max_mib: float, **limits: Any) -> None:
    """Fetch the images of a list; the same command goes on where it stopped."""
    from recgen.data.download import downloader as fetching
    from recgen.data.download.fetching import Limits

    counts = fetching.download(urls, out, Limits(max_bytes=int(max_mib * 2**20), **limits))
    click.echo(fetching.summary(counts, out))


@data.group()
def prepare() -> None:
    """Turn published raw files into a RecBole data set, with a report of what was dropped and why."""


def _raw_and_out(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that all of them have."""
    out = click.option(
        "--out", required=True, type=_PATH, help="The data set's folder; its name becomes the data set's."
    )
    return click.option("--raw", required=True, type=_PATH, help="The folder of the raw files.")(out(command))


def _drawn(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that decide which users stay."""
    least = click.option("--least", default=3, show_default=True, help="Likes that a user needs.")
    seed = click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
    return click.option("--users", type=_SOME, help="Keep so many users, drawn at random.")(
        seed(least(command))
    )


_images = click.option("--images", type=_PATH, help="Images named by item id: a folder or a zip.")


@prepare.command()
@_raw_and_out
@_drawn
@_images
@click.option("--imaged", is_flag=True, help="Leave out movies that have no poster in --images.")
@click.option("--poster-url", help="Where posters are, with {movie_id}, {imdb_id} or {tmdb_id} in it.")
@click.option("--histories", type=_SOME, help="Cut each user's ratings into users of so many; RAGAR has 20.")
def movielens(raw: Path, out: Path, **options: Any) -> None:
    """MovieLens 100K, 1M, or latest-small and 25M; told by the files in --raw."""
    from recgen.data.convert import movielens

    click.echo(movielens.prepare(raw, out, **options).summary())


@prepare.command()
@_raw_and_out
@_drawn
def pog(raw: Path, out: Path, **options: Any) -> None:
    """POG: user_data.txt and item_data.txt; RAGAR has --users 1000."""
    from recgen.data.convert import pog

    click.echo(pog.prepare(raw, out, **options).summary())


@prepare.command()
@_raw_and_out
@click.option("--users", type=_SOME, default=2230, show_default=True, help="Users to make of themes.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--history", type=_SOME, help="At most so many stickers of a user's two themes.")
def ser30k(raw: Path, out: Path, **options: Any) -> None:
    """SER30K: the folder SER_Dataset; two themes make a history, a third the reference."""
    from recgen.data.convert import ser30k

    click.echo(ser30k.prepare(raw, out, **options).summary())


@prepare.command()
@_raw_and_out
@_drawn
@_images
def mind(raw: Path, out: Path, **options: Any) -> None:
    """MIND: behaviors.tsv and news.tsv, in --raw or in folders there."""
    from recgen.data.convert import mind

    click.echo(mind.prepare(raw, out, **options).summary())


@prepare.command("flickr-aes")
@_raw_and_out
@click.option("--users", type=_SOME, help="Keep so many users, drawn at random.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--least", default=100, show_default=True, help="Likes (4 or 5) that a user needs.")
def flickr_aes(raw: Path, out: Path, **options: Any) -> None:
    """FLICKR-AES: the workers' ratings, and the photos in 40K."""
    from recgen.data.convert import flickr_aes

    click.echo(flickr_aes.prepare(raw, out, **options).summary())


@prepare.command()
@_raw_and_out
@_drawn
@_images
@click.option("--imaged", is_flag=True, help="Leave out items without an image.")
@click.option(
    "--like", type=float, help="Ratings from here up are likes; without it every interaction is one."
)
@click.option(
    "--simulate-users", type=_SOME, help="Make up the log of so many users with tastes in the images."
)
def table(raw: Path, out: Path, **options: Any) -> None:
    """Any items.csv|parquet, interactions.csv|parquet, users.csv|parquet and images/."""
    from recgen.data.convert import table

    click.echo(table.prepare(raw, out, **options).summary())


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
