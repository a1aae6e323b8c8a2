"""What the commands print: results, and what is installed, as plain lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recgen.config import plugins
from recgen.config.describe import keys
from recgen.config.yaml_text import parse_yaml
from recgen.core.errors import UserError


def results(metrics: Mapping[str, Any], width: int = 0) -> str:
    """Return the measured values with their 95% intervals, and below them what they say in a few lines.

    Parameters
    ----------
    metrics
        What metrics.json holds.
    width
        Columns of the terminal, which no line is longer than; 0 sets no limit.
    """
    return "\n".join([*_images(metrics, width), *_recommender(metrics, width), *_in_short(metrics, width)])


def _images(metrics: Mapping[str, Any], width: int) -> Iterator[str]:
    """Yield a line for each metric of images with a column for each generator, in as many tables as the width takes."""
    from recgen.metrics.registry import METRICS

    columns = metrics.get("creatives", {})
    shown = [
        metric
        for metric in METRICS
        if metric.kind != "downstream" and any(column.get(metric.key) for column in columns.values())
    ]
    table = [["Images", *columns]] + [
        [metric.title, *(_cell(column.get(metric.key), metric.digits) for column in columns.values())]
        for metric in shown
    ]
    for chosen in _fitting(table, width) if shown else ():
        yield ""
        yield from _aligned([[row[0], *(row[column] for column in chosen)] for row in table])


def _fitting(table: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Yield the numbers of a table's columns, but for the first, in groups that fit the width beside the first."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    group: list[int] = []
    for column in range(1, len(widths)):
        if group and width and sum(widths[each] + 2 for each in [0, *group, column]) - 2 > width:
            yield group
            group = []
        group.append(column)
    yield group


def _recommender(metrics: Mapping[str, Any], width: int) -> Iterator[str]:
    """Yield a line for each source of images that the recommender was trained with, with what that source is if there is room."""
    from recgen.metrics.registry import METRICS
    from recgen.report.tables import source_in_words

    found = metrics.get("downstream", {})
    shown = [each for each in METRICS if any(column.get(each.key) for column in found.values())]
    if shown:
        head = ["The recommender, trained with", *(metric.title for metric in shown), ""]
        rows = [
            [name, *(_cell(column.get(each.key), each.digits) for each in shown), source_in_words(name)]
            for name, column in found.items()
        ]
        lines = _aligned([head, *rows])
        if width and max(map(len, lines)) > width:
            lines = _aligned([row[:-1] for row in (head, *rows)])
        yield from ("", *lines)


def _in_short(metrics: Mapping[str, Any], width: int) -> Iterator[str]:
    from recgen.report.headline import headline, verdicts

    if not metrics.get("creatives"):
        return
    told = headline(metrics)
    yield from ("", "In short:", *_wrapped(f"  {' '.join(told.sentences)}", width, "  "))
    for question, groups in verdicts(metrics).items():
        found = "; ".join(f"{group.label} ({group.generators})" for group in groups)
        yield from _wrapped(f"  {question}? {found}.", width, "    ")
    for limit in told.limits:
        yield from _wrapped(f"  - {limit}", width, "    ")


def _wrapped(line: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=indent) if width else [line]


def market(found: Mapping[str, Any]) -> str:
    """Return what came of a market, one line per arm: clicks, uplift with its 95% interval, and the recommender of its own world.

    Parameters
    ----------
    found
        What market/summary.json holds.
    """
    head = ["", "clicks per 1,000 pages", "uplift", "p", "own world: clicks", "Recall@10", "NDCG@10"]
    lines = []
    for effect, tables in found["effects"].items():
        rows = []
        for arm, row in tables["ab"].items():
            gain, world = row.get("uplift") or {}, tables["worlds"].get(arm, {})
            p = gain.get("p_holm")
            rows.append([
                arm,
                _cell(row["clicks"], 0),
                _cell({**gain, "value": gain.get("difference")} if gain else None, 0),
                "-" if p is None else f"{p:.4f}",
                _cell(world.get("clicks"), 0),
                *(_cell(world.get("quality", {}).get(name), 4) for name in ("recall@10", "ndcg@10")),
            ])  # fmt: skip
        lines += ["", f"Effect of the image on a click: {effect}", *_aligned([head, *rows])]
    return "\n".join(lines[1:])


def _cell(estimate: Mapping[str, Any] | None, digits: int) -> str:
    if not estimate or estimate["value"] is None:
        return "-"
    from recgen.metrics.statistics import DRAWS

    value = f"{estimate['value']:.{digits}f}"
    if estimate["low"] is None or (estimate.get("n") or DRAWS) < DRAWS:
        return value
    return f"{value} [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    table = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def generators() -> str:
    """Return the installed generators, each with every option of its block: name, type, default and meaning."""
    lines = []
    for name in plugins.names(plugins.GENERATORS):
        try:
            kind = plugins.load(plugins.GENERATORS, name, "recgen generators")
        except UserError as error:  # one broken package must not hide the others
            lines += ["", f"{name}: {error}"]
            continue
        lines += ["", f"{name}: {_summary(kind)}"]
        lines += [
            f"  {line}"
            for line in _aligned([key.name, key.type, key.default, key.meaning] for key in keys(kind.Config))
        ]
    return "\n".join(lines[1:])


def models() -> str:
    """Return the installed ranking models, each with RecBole's keys that it has defaults for."""
    lines = []
    for name in plugins.names(plugins.RANKING_MODELS):
        kind = plugins.load(plugins.RANKING_MODELS, name, "recgen models")
        lines += ["", f"{name}: {_summary(kind)}"]
        lines += [f"  {line}" for line in _aligned(model_defaults(kind) or [["no defaults of its own"]])]
    return "\n".join(lines[1:])


def model_defaults(kind: Any) -> list[list[str]]:
    """Return name, type and default of the keys in the YAML that a ranking model's class names as its `defaults`."""
    path = getattr(kind, "defaults", None)
    if path is None:
        return []
    with open(path, encoding="utf-8") as file:
        values = parse_yaml(file.read(), str(path)) or {}
    return [[str(key), type(value).__name__, str(value)] for key, value in values.items()]


def _summary(kind: Any) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]
