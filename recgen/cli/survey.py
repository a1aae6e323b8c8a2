"""`recgen survey`: make and score, and `recgen study`, its former name."""

from __future__ import annotations

import click

from recgen.cli.options import SOME, Command, here, run_option


@click.group()
def survey() -> None:
    """Ask people which images appeal to them."""


@survey.command()
@run_option("a run that is finished up to generate")
@click.option("--out", required=True, metavar="FILE.html", callback=here, help="The questionnaire.")
@click.option("--items", type=SOME, default=8, show_default=True, help="Questions.")
@click.option("--source", "sources", multiple=True, help="Whose images; all generators and ORI by default.")
@click.option("--seed", default=0, show_default=True, help="Seed of which requests are asked about.")
def make(folder: str, out: str, items: int, sources: tuple[str, ...], seed: int) -> None:
    """Write a questionnaire. It is one HTML file, shuffled, that does not say whose an image is."""
    from recgen.survey import page

    click.echo(page.make(folder, out, items, sources, seed))


@survey.command(cls=Command)
@run_option("the run that the questionnaire was made of")
@click.option(
    "--answers", required=True, multiple=True, metavar="FILE ...", help="Files that respondents downloaded."
)
def score(folder: str, answers: tuple[str, ...]) -> None:
    """Say what the answers to a questionnaire say."""
    from recgen.survey import scoring

    click.echo(scoring.score(folder, answers))


@click.group(hidden=True)
def study() -> None:
    """Former name of `recgen survey`."""
    click.echo("recgen: recgen study is called recgen survey now.", err=True)


study.add_command(make)
study.add_command(score)
