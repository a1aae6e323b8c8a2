"""The report of a run: one HTML file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from recgen.core.io import write_bytes
from recgen.core.version import __version__
from recgen.metrics.registry import METRICS, lookup
from recgen.report import believed, budget, credibility, gallery, gate, market, plots, sharing, tables, text
from recgen.report.answers import answers
from recgen.report.headline import groups, headline
from recgen.report.run_files import RunFiles

HERE = Path(__file__).parent
IN_SHORT = (0, 2, 4)
"""Which answers stand in the report's first lines: whether it is personal, the item still recognisable, the ranking better."""


def build(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run's folder.

    Parameters
    ----------
    run
        The folder of a run whose evaluate stage is finished; the downstream stage may be missing.
    out
        The HTML file to write; the folder's own report.html by default.

    Returns
    -------
    The path of the report. It is one file: styles, images and plots are inside.

    Raises
    ------
    UserError
        If a folder has no metrics.json, or a table lacks a column.
    """
    files = RunFiles.read(run)
    metrics, rows = tables.downstream(files.metrics)
    control_metrics, control_rows = tables.beside_controls(files.metrics)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    told = answers(files)
    page = _template().render(
        version=__version__,
        run=files,
        headline=headline(files.metrics),
        short=[{"question": told[k].question, "groups": groups(told[k].lines)} for k in IN_SHORT],
        answers=told,
        banner=credibility.banner(files),
        checks=credibility.checks(files),
        believed=believed.kinds(files),
        believed_source=believed.source(files),
        control_metrics=control_metrics,
        control_rows=control_rows,
        placebo_noises=files.placebo_noises,
        contrasts=tables.contrasts(files.metrics),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sections=tables.sections(
            list(files.metrics["creatives"].values()), files.metrics.get("unavailable", {})
        ),
        unavailable=files.metrics.get("unavailable", {}),
        downstream_metrics=metrics,
        downstream_rows=rows,
        between=tables.between_generators(files.metrics),
        gate=gate.section(files),
        budget=budget.section(files),
        sharing=sharing.section(files),
        market=market.section(files),
        plots=plots.plots(files),
        cards=gallery.cards(files),
        facts=tables.facts(files),
        all_metrics=METRICS,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
    )
    path = run / "report.html" if out is None else out
    write_bytes(path, page.encode("utf-8", errors="replace"))
    return path


def compare(runs: Sequence[Path], out: Path) -> Path:
    """Write a page that puts runs side by side, with links to their reports.

    Parameters
    ----------
    runs
        Folders of two or more runs whose evaluate stage is finished.
    out
        The HTML file to write.

    Returns
    -------
    The path of the page, which is one file like a report.

    Raises
    ------
    UserError
        If a folder has no metrics.json, or a table lacks a column.
    """
    files = [RunFiles.read(folder) for folder in runs]
    comparison = tables.comparison(files)
    links = [
        (label, _link(run.folder / "report.html", out))
        for (label, _), run in zip(comparison.runs, files, strict=True)
    ]
    page = _template("compare.html.j2").render(
        version=__version__,
        comparison=comparison,
        links=links,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
    )
    write_bytes(out, page.encode("utf-8", errors="replace"))
    return out


def _link(report: Path, page: Path) -> str:
    """Return the way from a page to a report as a relative address; "" where there is no report."""
    if not report.is_file():
        return ""
    way = os.path.relpath(report.resolve(), page.resolve().parent)
    return quote(way.replace(os.sep, "/"))


def _template(name: str = "template.html.j2") -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(text, name) for name in ("duration", "listed", "plain", "shorten")}
    environment.globals |= {"questions": tables.QUESTIONS, "lookup": lookup}
    return environment.get_template(name)
