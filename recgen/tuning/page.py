"""The report of a tuning study: one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recgen.core.io import write_bytes
from recgen.core.version import __version__
from recgen.metrics.statistics import paired_seeds
from recgen.report.drawing import Plot
from recgen.report.text import duration, interval, number, p_value, shorten
from recgen.tuning.facts import StudyFacts, TrialRow

HERE = Path(__file__).parent
STYLE = HERE.parent / "report/style.css"
DIGITS = 4  # Recall and NDCG differ in the fourth decimal long before they differ in the third


def build(folder: Path, study: StudyFacts, drawn: Sequence[Plot]) -> Path:
    """Write study.html, with the plots of `recgen.tuning.plots`, into a study's folder and return its path."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "shorten": shorten, "value": _shown, "score": _score}
    page = environment.get_template("page.html.j2").render(
        version=__version__,
        study=study,
        best=None if study.best is None else study.row(study.best),
        sentences=_sentences(study),
        plots=drawn,
        report=(folder / "winner/report.html").exists(),
        style=STYLE.read_text(encoding="utf-8"),
    )
    path = folder / "study.html"
    write_bytes(path, page.encode("utf-8", errors="replace"))
    return path


def _sentences(study: StudyFacts) -> list[str]:
    """Say what the study found, and how far that can be trusted."""
    found = []
    if study.best is None:
        return ["No trial was completed, so there is nothing to choose from."]
    best = study.row(study.best)
    values = ", ".join(
        f"{name} {_score(value)}" for name, value in zip(study.objectives, best.values, strict=True)
    )
    found.append(f"Trial {best.number} is the best on validation: {values}.")
    if len(study.objectives) > 1:
        found.append(
            "With more than one objective the winner is the trial with the highest mean of where its values lie between the "
            "worst, 0, and the best, 1, of all trials; it lies on the Pareto front."
        )
    first = next((row for row in study.of("complete") if row.params == study.start), None)
    if first is not None and first.number != best.number:
        found += [_compared(best, first, metric) for metric in best.seeds]
        found.append(
            f"Trial {first.number} has the settings that the study started from. The winner was chosen because it came out best "
            f"of {len(study.of('complete'))}, so these differences flatter it; its run on the test split does not."
        )
    elif first is not None:
        found.append("These are the settings that the study started from: nothing better was found.")
    if study.winner is not None and study.winner != study.best:
        found.append(
            f"The test split was seen by trial {study.winner}, the best when the study first ended. It is not looked at again, "
            f"or it would help to choose."
        )
    return found


def _compared(best: TrialRow, first: TrialRow, metric: str) -> str:
    gap = paired_seeds(best.seeds[metric], first.seeds[metric])
    return (
        f"{metric}, trial {best.number} against trial {first.number}: {number(gap.difference, DIGITS, signed=True)} "
        f"({interval(gap.low, gap.high, DIGITS)} over {gap.n} training seeds, {p_value(gap.p)})."
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(value: float | None) -> str:
    return number(value, DIGITS)
