"""What the commands print: results, and what is installed, as plain lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recgen.config import plugins
from recgen.config.describe import keys
from recgen.config.yaml_text import parse_yaml
from recgen.core.errors import UserError


def results(metrics: Mapping[str, Any]) -> str:
    """Return the measured values with their 95% intervals, one line per metric and one column per generator.

    Parameters
    ----------
    metrics
        What metrics.json holds.
    """
    from recgen.metrics.registry import METRICS

    lines = []
    for title, kinds, columns in (
        ("Images", ("creative", "set"), metrics.get("creatives", {})),
        ("The recommender with them", ("downstream",), metrics.get("downstream", {})),
    ):
        rows = [
            [metric.title, *(_cell(column.get(metric.key), metric.digits) for column in columns.values())]
            for metric in METRICS
            if metric.kind in kinds and any(column.get(metric.key) for column in columns.values())
        ]
        if rows:
            lines += ["", *_aligned([[title, *columns], *rows])]
    return "\n".join(lines)


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


_DRAWS = (
    3  # Student's t of two is 12.7: the interval of a Recall@10 then reaches below zero, and says nothing
)


def _cell(estimate: Mapping[str, Any] | None, digits: int) -> str:
    if not estimate or estimate["value"] is None:
        return "-"
    value = f"{estimate['value']:.{digits}f}"
    if estimate["low"] is None or (estimate.get("n") or _DRAWS) < _DRAWS:
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
