"""`recgen serve`, `recgen work` and `recgen clicks`."""

from __future__ import annotations

import click

from recgen.cli.options import AT_LEAST_0, SHARE, SOME, here, run_option

DATABASE = click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL, for several machines: postgresql://user:password@host/name, one for each run. "
    "A file in the run's folder by default.",
)


@click.command()
@run_option("a run that is finished up to gate")
@click.option("--generator", help="Whose creatives; the run's only generator by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 65535),
    help="Where to listen.",
)
@click.option(
    "--keys", metavar="FILE", help="API keys, one a line; needed where others can reach the service."
)
@click.option(
    "--rate",
    default=0.0,
    show_default=True,
    type=AT_LEAST_0,
    help="Requests a second of each caller, in each process; 0 for no limit.",
)
@click.option(
    "--explore",
    default=0.0,
    show_default=True,
    type=SHARE,
    help="Share of impressions dealt to all images of an item alike, so that the log has some of each.",
)
@click.option("--workers", default=1, show_default=True, type=SOME, help="Processes.")
@DATABASE
@click.option("--all", "everything", is_flag=True, help="Serve creatives that the gate refused as well.")
def serve(
    folder: str,
    generator: str | None,
    host: str,
    port: int,
    keys: str | None,
    rate: float,
    explore: float,
    workers: int,
    everything: bool,
    database: str | None,
) -> None:
    """Serve a run's creatives over HTTP. It answers which image of an item a user is shown."""
    from recgen.serving import main

    main.serve(folder, generator, host, port, keys, rate, explore, workers, everything, database)


@click.command()
@run_option("a run that has been served")
@click.option("--once", is_flag=True, help="End when nothing waits.")
@click.option("--limit", type=SOME, help="Draw no more than so many.")
@DATABASE
def work(folder: str, once: bool, limit: int | None, database: str | None) -> None:
    """Draw what the service was asked for and could not show. It goes on until it is interrupted."""
    from recgen.serving import work as working

    click.echo(working.work(folder, once, limit, database))


@click.command()
@run_option("a run that has been served")
@click.option("--out", required=True, metavar="FILE.parquet", callback=here, help="The click log.")
@DATABASE
def clicks(folder: str, out: str, database: str | None) -> None:
    """Write what was shown and clicked as a click log. It is for off-policy estimates and training."""
    from recgen.serving import main

    click.echo(main.clicks(folder, out, database))
