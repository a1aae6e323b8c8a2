"""The report's tables, from metrics.json to cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recgen.metrics.registry import METRICS, Metric, lookup
from recgen.metrics.statistics import DRAWS, SIGNIFICANT
from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number, p_value, plain

ORIGINAL = "ORI"
QUESTIONS = {
    "personal": "Is it personal?",
    "same item": "Is it still the same item?",
    "image quality": "Does it look like a real image?",
    "ranking": "Does the recommender rank better?",
}
ARROWS = {
    "higher": ("↑", "higher is better"),
    "lower": ("↓", "lower is better"),
    "none": ("", "neither direction is better"),
}
BESIDE_CONTROLS = (
    "true_utility_gain",
    "standardised_gain_judge",
    "risen_judge",
    "percentile_gain_judge",
    "reciprocal_rank_gain_judge",
    "delta_r_judge",
    "score_gain_judge",
    "verifier_score",
    "cis",
    "retrieved_top10",
)
"""What the table beside controls shows."""
FACTS = {
    "dataset": "Data set",
    "users": "Users",
    "items": "Items",
    "images": "Items with an image",
    "rendered": "Images drawn by recgen's renderer",
    "bad_images": "Images that could not be used",
    "interactions": "Interactions (likes) of the ranking data",
    "dislikes": "Dislikes kept for the verifier",
    "requests": "Requests (one image for one user)",
    "groups": "Groups of users that share creatives",
    "protocol": "Protocol of the requests",
    "seed": "Seed",
    "reward": "Reward model",
    "judge": "Judge",
    "judge_encoder": "What the judge sees images through",
    "text_encoder": "What the ranking models read texts through",
    "same_judge": "Reward and judge are one model",
    "target": "Split that the references are from",
    "verifier": "Verifier",
    "what_if": "What-if scoring of a replaced image",
    "encoder": "CLIP encoder",
    "backbone": "Diffusion backbone",
    "downstream": "Downstream training",
    "threads": "CPU threads",
}


@dataclass(frozen=True)
class Cell:
    """One number of a table: the exact value for machines, and the text for people."""

    value: float | None
    text: str
    interval: str
    n: int
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One metric over the columns of a table."""

    metric: Metric
    cells: list[Cell | None]
    reason: str = ""

    @property
    def arrow(self) -> tuple[str, str]:
        """The direction's sign and words."""
        return ARROWS[self.metric.direction]


@dataclass(frozen=True)
class Section:
    """The rows that answer one question."""

    title: str
    rows: list[Row]


def sections(columns: Sequence[Mapping[str, Any]], unavailable: Mapping[str, str]) -> list[Section]:
    """Group metrics by question, one column per generator (or per run and generator).

    Parameters
    ----------
    columns
        For each column its metrics, as metrics.json holds them.
    unavailable
        Metrics that could not be computed, with the reason.
    """
    present = {key for column in columns for key in column} | set(unavailable)
    known = [metric.key for metric in METRICS]
    ordered = [key for key in known if key in present] + sorted(present - set(known))
    rows = [_row(lookup(key), columns, unavailable.get(key, "")) for key in ordered]
    grouped = [
        (title, [row for row in rows if row.metric.question == key]) for key, title in QUESTIONS.items()
    ]
    return [Section(title, found) for title, found in grouped if found]


def _row(metric: Metric, columns: Sequence[Mapping[str, Any]], reason: str) -> Row:
    estimates = [column.get(metric.key) for column in columns]
    values = [estimate["value"] for estimate in estimates if estimate and estimate["value"] is not None]
    best = _best(metric, values)
    return Row(metric, [_cell(metric, estimate, best) for estimate in estimates], "" if values else reason)


def _best(metric: Metric, values: list[float]) -> float | None:
    """The best of several values, for a metric that has a better end."""
    if len(set(values)) < 2 or metric.direction == "none":
        return None
    return max(values) if metric.direction == "higher" else min(values)


def _cell(metric: Metric, estimate: Mapping[str, Any] | None, best: float | None = None) -> Cell | None:
    if not estimate or estimate["value"] is None:
        return None
    value = estimate["value"]
    bounds = bounds_of(metric, estimate)
    return Cell(value, number(value, metric.digits), bounds, estimate["n"], value == best)


def bounds_of(metric: Metric, estimate: Mapping[str, Any]) -> str:
    """Return the 95% interval of an estimate or a difference; of what is over draws, that there is none where they are few."""
    if metric.kind == "downstream" and estimate["n"] < DRAWS:
        return "too few for an interval"
    return interval(estimate["low"], estimate["high"], metric.digits)


@dataclass(frozen=True)
class Change:
    """A paired difference between two columns, ready to print; clear where interval and corrected p both exclude zero."""

    a: str
    b: str
    metric: Metric
    value: float | None
    text: str
    interval: str
    p: str
    n: int
    test: str
    clear: bool


def changes(tests: Iterable[Mapping[str, Any]]) -> list[Change]:
    """Return metrics.json's paired tests ready to print."""
    return [_change(test) for test in tests]


def _change(test: Mapping[str, Any]) -> Change:
    metric = lookup(test["metric"])
    low, high, p = test["low"], test["high"], test.get("p_holm", test["p"])
    outside = low is not None and high is not None and (low > 0 or high < 0)
    return Change(
        test["a"],
        test["b"],
        metric,
        test["difference"],
        number(test["difference"], metric.digits, signed=True),
        bounds_of(metric, test),
        p_value(p),
        test["n"],
        test["test"],
        clear=outside and p is not None and p < SIGNIFICANT,
    )


def between_generators(metrics: Mapping[str, Any]) -> list[Change]:
    """Paired tests of generators' creatives (not the downstream ones)."""
    return changes(
        test
        for test in _paired(metrics)
        if lookup(test["metric"]).kind != "downstream" and "@" not in test["metric"]
    )


def against_original(metrics: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """Paired downstream tests of a source, by metric, as source minus the original images."""
    found = {}
    for test in _paired(metrics):
        if (test["a"], test["b"]) == (source, ORIGINAL):
            found[test["metric"]] = dict(test)
        elif (test["a"], test["b"]) == (ORIGINAL, source):
            turned = {"difference": test["difference"], "low": test["high"], "high": test["low"]}
            found[test["metric"]] = {**test, **{k: None if v is None else -v for k, v in turned.items()}}
    return found


ARMS = {
    "swapped.": "another user's",
    "dealt.": "other items' creatives",
    "RANDOM": "random items' images",
    "CONSTANT": "one image for all",
    ORIGINAL: "the original images",
}
"""What a generator's creatives are compared with downstream, by source or by what stands before the generator's name."""


_SOURCES = {
    "ORI": "the original images",
    "SHUFFLED": "images dealt to other items",
    "NONE": "one image for all items",
    "RANDOM": "random images for the drawn items",
    "CONSTANT": "one creative for the drawn items",
}


def source_in_words(source: str) -> str:
    """Return what a source of images is that a recommender is trained with.

    >>> source_in_words("ORI"), source_in_words("swapped.taste"), source_in_words("taste")
    ('the original images', 'the same made for users who have not met the items', 'creatives for users who like the drawn items')
    """
    if source.startswith("swapped."):
        return "the same made for users who have not met the items"
    if source.startswith("dealt."):
        return "the creatives of other drawn items"
    return _SOURCES.get(source, "creatives for users who like the drawn items")


def downstream_contrasts(metrics: Mapping[str, Any], generator: str, key: str) -> dict[str, dict[str, Any]]:
    """Return downstream tests of a generator by what it was compared with, as generator minus that; measured ones only."""
    known = {
        test["b"]: test
        for test in _paired(metrics)
        if test["a"] == generator and test["metric"] == key and test["difference"] is not None
    }
    named = ((words, f"{arm}{generator}" if arm.endswith(".") else arm) for arm, words in ARMS.items())
    return {words: known[source] for words, source in named if source in known}


def beside_controls(metrics: Mapping[str, Any]) -> tuple[list[Metric], list[tuple[str, list[Cell | None]]]]:
    """Return metrics and a row of cells for each source, generators beside controls; no rows where there are no controls.

    A generator is followed by the same generator's creatives for other users; then come the controls that all share. No cell is
    marked as the best: that a control is the best by a metric is no merit of it.
    """
    controls = {name: found for name, found in (metrics.get("controls") or {}).items() if found}
    if not controls:
        return [], []
    sources: list[tuple[str, Mapping[str, Any]]] = []
    for generator, measured in metrics["creatives"].items():
        sources.append((generator, measured))
        if f"swapped.{generator}" in controls:
            sources.append((f"{generator}, another user's", controls[f"swapped.{generator}"]))
    prefix = "control."
    sources += [
        (name.removeprefix(prefix), found) for name, found in controls.items() if name.startswith(prefix)
    ]
    shown = [lookup(key) for key in BESIDE_CONTROLS if any(key in found for _, found in sources)]
    return shown, [(name, [_cell(each, found.get(each.key)) for each in shown]) for name, found in sources]


def contrasts(metrics: Mapping[str, Any]) -> list[Change]:
    """Return the contrasts of every generator with swapped creatives, the placebo and the other controls, ready to print."""
    found = metrics.get("tests", {}).get("contrasts", [])
    named = {"swapped": "another user's", "net of placebo": "another user's, net of the placebo's"}
    return changes(
        {
            **test,
            "b": named.get(test["kind"], test["b"].removeprefix("control.")),
        }
        for test in found
        if test["difference"] is not None
    )


def _paired(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return metrics.get("tests", {}).get("paired", [])


@dataclass(frozen=True)
class DownstreamRow:
    """One source of images: its results, and its differences from the original images."""

    source: str
    cells: list[Cell | None]
    changes: list[Change | None]


def downstream(metrics: Mapping[str, Any]) -> tuple[list[Metric], list[DownstreamRow]]:
    """Return the downstream metrics, and a row per source with the originals first; both may be empty."""
    results = metrics.get("downstream") or {}
    keys = list(dict.fromkeys(key for found in results.values() for key in found))
    rows = []
    for source in sorted(results, key=lambda name: name != ORIGINAL):
        tests = against_original(metrics, source)
        cells = [_cell(lookup(key), results[source].get(key)) for key in keys]
        rows.append(
            DownstreamRow(source, cells, [_change(tests[key]) if key in tests else None for key in keys])
        )
    return [lookup(key) for key in keys], rows


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: (run, generator) columns, their metrics, and the facts in which the runs differ."""

    runs: list[tuple[str, int]]
    generators: list[str]
    sections: list[Section]
    differing: list[tuple[str, list[str]]]


def comparison(runs: Sequence[RunFiles]) -> Comparison:
    """Put the generators of several runs side by side."""
    columns = [(run, generator) for run in runs for generator in run.generators]
    values = [
        {**run.metrics["creatives"][generator], **(run.metrics.get("downstream") or {}).get(generator, {})}
        for run, generator in columns
    ]
    keys = dict.fromkeys(key for run in runs for key in run.facts)
    facts = [(FACTS.get(key, key), [plain(run.facts.get(key, "–")) for run in runs]) for key in keys]
    return Comparison(
        [(label, len(run.generators)) for label, run in zip(_labels(runs), runs, strict=True)],
        [generator for _, generator in columns],
        sections(values, {}),
        [(label, found) for label, found in facts if len(set(found)) > 1],
    )


def _labels(runs: Sequence[RunFiles]) -> list[str]:
    """The runs' names, with their parent folder's where two have the same."""
    names = [run.name for run in runs]
    return [
        f"{run.folder.resolve().parent.name}/{run.name}" if names.count(run.name) > 1 else run.name
        for run in runs
    ]


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """What a reader must know beside the numbers, in order; facts without a label keep their key, those of None are left out."""
    known = [key for key, value in run.facts.items() if value is not None]
    ordered = [*(key for key in FACTS if key in known), *(key for key in known if key not in FACTS)]
    return [(FACTS.get(key, key), plain(run.facts[key])) for key in ordered]
