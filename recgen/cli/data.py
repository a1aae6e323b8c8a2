"""`recgen data`: simulate, download and the converters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from recgen.cli.options import ABOVE_0, SOME, Command

_PATH = click.Path(path_type=Path)


@click.group()
def data() -> None:
    """Make data sets."""


@data.command()
@click.option("--out", required=True, help="The data set's folder; its name becomes the data set's.")
@click.option("--users", type=SOME, default=500, show_default=True, help="Users to simulate.")
@click.option("--items", type=SOME, default=600, show_default=True, help="Items to simulate.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
def simulate(out: str, users: int, items: int, seed: int) -> None:
    """Make a data set of users whose taste in images is known."""
    from recgen import api

    click.echo(api.simulate(out, users, items, seed))


@data.command()
@click.option(
    "--urls",
    required=True,
    type=_PATH,
    help="A CSV or Parquet file: item_id, url. prepare writes image_urls.csv.",
)
@click.option("--out", required=True, type=_PATH, help="The folder of images.")
@click.option(
    "--workers", type=SOME, default=16, show_default=True, help="Images under way at the same time."
)
@click.option("--per-host", type=SOME, default=4, show_default=True, help="Of these, from one host.")
@click.option("--timeout", type=ABOVE_0, default=20.0, show_default=True, help="Seconds without a byte.")
@click.option("--tries", type=SOME, default=4, show_default=True, help="Attempts at an image in one run.")
@click.option(
    "--max-mib", type=ABOVE_0, default=64.0, show_default=True, help="The largest image; 64 are read."
)
@click.option("--allow-private", is_flag=True, help="Also fetch from this machine and private networks.")
def download(urls: Path, out: Path, max_mib: float, **limits: Any) -> None:
    """Fetch the images of a list. The same command goes on where it stopped."""
    from recgen.data.download import downloader as fetching
    from recgen.data.download.fetching import Limits

    counts = fetching.download(urls, out, Limits(max_bytes=int(max_mib * 2**20), **limits))
    click.echo(fetching.summary(counts, out))


@data.group()
def prepare() -> None:
    """Turn raw files into a RecBole data set. A report says what was dropped and why."""


def _raw_and_out(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that all of them have."""
    out = click.option(
        "--out", required=True, type=_PATH, help="The data set's folder; its name becomes the data set's."
    )
    return click.option("--raw", required=True, type=_PATH, help="The folder of the raw files.")(out(command))


def _drawn(command: Callable[..., None]) -> Callable[..., None]:
    """Give a converter the options that decide which users stay."""
    min_likes = click.option("--min-likes", default=3, show_default=True, help="Likes that a user needs.")
    seed = click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
    return click.option("--users", type=SOME, help="Keep so many users, drawn at random.")(
        seed(min_likes(command))
    )


def _tell(target: Any) -> None:
    """Print a converter's report, and what a first run would take."""
    from recgen.starter.start import estimate

    click.echo(target.summary())
    click.echo(target.keys())
    click.echo(estimate(target.out))


_images = click.option("--images", type=_PATH, help="Images named by item id: a folder or a zip.")


@prepare.command(cls=Command)
@_raw_and_out
@_drawn
@_images
@click.option("--with-images-only", is_flag=True, help="Leave out movies that have no poster in --images.")
@click.option("--poster-url", help="Where posters are, with {movie_id}, {imdb_id} or {tmdb_id} in it.")
@click.option("--histories", type=SOME, help="Cut each user's ratings into users of so many; RAGAR has 20.")
def movielens(raw: Path, out: Path, **options: Any) -> None:
    """MovieLens 100K, 1M, latest-small or 25M. Which one is told by the files in --raw."""
    from recgen.data.convert import movielens

    _tell(movielens.prepare(raw, out, **options))


@prepare.command(cls=Command)
@_raw_and_out
@_drawn
def pog(raw: Path, out: Path, **options: Any) -> None:
    """POG: user_data.txt and item_data.txt; RAGAR has --users 1000."""
    from recgen.data.convert import pog

    _tell(pog.prepare(raw, out, **options))


@prepare.command(cls=Command)
@_raw_and_out
@click.option("--users", type=SOME, default=2230, show_default=True, help="Users to make of themes.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--history", type=SOME, help="At most so many stickers of a user's two themes.")
def ser30k(raw: Path, out: Path, **options: Any) -> None:
    """SER30K: the folder SER_Dataset. Two themes make a history, a third the reference."""
    from recgen.data.convert import ser30k

    _tell(ser30k.prepare(raw, out, **options))


@prepare.command(cls=Command)
@_raw_and_out
@_drawn
@_images
def mind(raw: Path, out: Path, **options: Any) -> None:
    """MIND: behaviors.tsv and news.tsv, in --raw or in folders there."""
    from recgen.data.convert import mind

    _tell(mind.prepare(raw, out, **options))


@prepare.command("flickr-aes", cls=Command)
@_raw_and_out
@click.option("--users", type=SOME, help="Keep so many users, drawn at random.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--min-likes", default=100, show_default=True, help="Likes (4 or 5) that a user needs.")
def flickr_aes(raw: Path, out: Path, **options: Any) -> None:
    """FLICKR-AES: the workers' ratings, and the photos in 40K."""
    from recgen.data.convert import flickr_aes

    _tell(flickr_aes.prepare(raw, out, **options))


@prepare.command(cls=Command)
@_raw_and_out
@_drawn
@_images
@click.option("--with-images-only", is_flag=True, help="Leave out items without an image.")
@click.option(
    "--like", type=float, help="Ratings from here up are likes; without it every interaction is one."
)
@click.option(
    "--simulate-users", type=SOME, help="Make up the log of so many users with tastes in the images."
)
def table(raw: Path, out: Path, **options: Any) -> None:
    """Tables of your own. They are items, interactions and users as CSV or Parquet, beside images/."""
    from recgen.data.convert import table

    _tell(table.prepare(raw, out, **options))
