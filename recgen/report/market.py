"""The report's section on the market: what arms earned in clicks, and what their recommenders learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from recgen.metrics.statistics import SIGNIFICANT
from recgen.report.drawing import GREY, INK, PALETTE, STYLE, Plot, canvas, svg
from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number, p_value, shorten
from recgen.report.verdicts import Verdict

QUALITY = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
LEGEND_ROW = 0.18  # inches


@dataclass(frozen=True)
class Cell:
    """A figure and what stands below it."""

    value: float | None
    text: str
    below: str
    clear: bool = False


@dataclass(frozen=True)
class Row:
    """An arm: its cells, in the order of the table's columns."""

    arm: str
    cells: list[Cell]


@dataclass(frozen=True)
class Effect:
    """What was measured with one strength of the image; `units` are what its intervals are over."""

    title: str
    units: str
    ab: list[Row]
    worlds: list[Row]
    values: list[Row]


@dataclass(frozen=True)
class Section:
    """The section.

    Attributes
    ----------
    about
        What was played, in a sentence.
    verdict, label, sentence
        The answer to whether arms gain clicks, and the figures behind it.
    effects
        The tables, that of the market's own effect first.
    plot
        Uplift over rounds.
    """

    about: str
    verdict: Verdict
    label: str
    sentence: str
    effects: list[Effect]
    plot: Plot


def section(run: RunFiles) -> Section | None:
    """Return the section; None for a run without a market."""
    found = run.market
    if found is None:
        return None
    facts, effects = found["market"], found["effects"]
    main = next(iter(effects.values()))
    model = "the position-based model" if facts["click_model"] == "position" else "the cascade model"
    units = "users" if facts["seeds"] == 1 else "users and repetitions"
    again = "once" if facts["seeds"] == 1 else f"{facts['seeds']} times"
    about = (
        f"{number(facts['users'], 0)} simulated users came {facts['rounds']} times and each time opened {facts['pages']} pages "
        f"an arm, of {facts['places']} items that {facts['model']} ranked among {facts['candidates']} they had not met. They "
        f"clicked by their true taste for the image shown and by its place ({model}). After each round the recommender was "
        f"trained with the log. All of it was done {again}{', with other trainings and clicks' if facts['seeds'] > 1 else ''}."
    )
    return Section(
        about,
        *_verdict(main["ab"], effects.get("0")),
        [_effect(effect, tables, units) for effect, tables in effects.items()],
        _plot(effects),
    )


def _verdict(ab: dict[str, Any], control: dict[str, Any] | None) -> tuple[Verdict, str, str]:
    """Say which arms gain clicks, and whether the negative control lets that be believed."""
    gains = {arm: row["uplift"] for arm, row in ab.items() if "uplift" in row}
    clear = [arm for arm, gain in gains.items() if _clear(gain)]
    told = "; ".join(
        f"{arm} {number(gain['difference'], 0, signed=True)} ({interval(gain['low'], gain['high'], 0)})"
        for arm, gain in gains.items()
    )
    sentence = f"Clicks per 1,000 pages more than with the items' own images: {told}."
    false = (
        [] if control is None else [arm for arm, row in control["ab"].items() if _clear(row.get("uplift"))]
    )
    if false:
        sentence += f" Where no image matters {', '.join(false)} seems to gain or lose too."
        return "unclear", "the negative control finds something", sentence
    if not clear:
        return "unclear", "cannot tell", sentence
    risen = [arm for arm in clear if gains[arm]["difference"] > 0]
    return (
        ("good", f"more clicks: {', '.join(risen)}", sentence)
        if risen
        else ("bad", f"fewer clicks: {', '.join(clear)}", sentence)
    )


def _clear(gain: dict[str, Any] | None) -> bool:
    """Return whether an uplift's interval and its corrected p exclude 0."""
    if not gain or gain["low"] is None or gain["p_holm"] is None:
        return False
    return gain["p_holm"] < SIGNIFICANT and not gain["low"] <= 0 <= gain["high"]


def _title(effect: str) -> str:
    return "no image matters (negative control)" if effect == "0" else f"images matter (effect {effect})"


def _effect(effect: str, tables: dict[str, Any], units: str) -> Effect:
    return Effect(
        _title(effect),
        units,
        [
            Row(
                arm,
                [
                    _estimate(row["clicks"], 0),
                    Cell(row["expected"], number(row["expected"], 0), ""),
                    _gain(row.get("uplift"), 0),
                ],
            )
            for arm, row in tables["ab"].items()
        ],
        [_world(arm, row) for arm, row in tables["worlds"].items()],
        [
            Row(arm, [_estimate(tables["values"][arm].get(name), 4) for name in ("ips", "snips", "dr")])
            for arm in tables["ab"]
        ],
    )


def _world(arm: str, row: dict[str, Any]) -> Row:
    cells = [_estimate(row["clicks"], 0), _gain(row.get("uplift"), 0)]
    for name in QUALITY:
        cells += [_estimate(row["quality"][name], 4), _gain(row["quality"][name]["over_original"], 4)]
    return Row(arm, cells)


def _estimate(found: dict[str, Any] | None, digits: int) -> Cell:
    if found is None or found["value"] is None:
        return Cell(None, "–", "")
    return Cell(found["value"], number(found["value"], digits), interval(found["low"], found["high"], digits))


def _gain(found: dict[str, Any] | None, digits: int) -> Cell:
    if found is None or found["difference"] is None:
        return Cell(None, "–", "")
    p = found["p_holm"] if "p_holm" in found else found["p"]
    below = f"{interval(found['low'], found['high'], digits)} · {p_value(p)}"
    clear = found["low"] is not None and p is not None and p < SIGNIFICANT
    return Cell(found["difference"], number(found["difference"], digits, signed=True), below, clear)


def _plot(effects: dict[str, Any]) -> Plot:
    """Uplift over the originals, round by round, a panel for each effect."""
    with matplotlib.rc_context(STYLE):
        drawings, words, arms = [], [], len(next(iter(effects.values()))["ab"]) - 1
        for effect, tables in effects.items():
            figure, axes = canvas(3.75, 2.8 + LEGEND_ROW * arms)
            figure.subplots_adjust(bottom=(0.6 + LEGEND_ROW * arms) / figure.get_figheight())
            words.append(_draw(axes, tables["rounds"]))
            axes.set_title(_title(effect).capitalize())
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.22))
            drawings.append(svg(figure, f"market-{effect.replace('.', '_')}"))
    return Plot(
        "Uplift over rounds of retraining",
        "Clicks per 1,000 pages over the originals' on pages of the same rounds, with 95% intervals.",
        f"Uplift by round. {'; '.join(words)}.",
        drawings,
    )


def _draw(axes: Axes, rounds: list[dict[str, Any]]) -> str:
    arms = [arm for arm, row in rounds[0].items() if "uplift" in row]
    told = []
    for index, arm in enumerate(arms):
        gains = [each[arm]["uplift"] for each in rounds]
        at = [step + 1 + 0.06 * (index - (len(arms) - 1) / 2) for step in range(len(gains))]
        colour = PALETTE[index % len(PALETTE)]
        values = [gain["difference"] for gain in gains]
        axes.plot(at, values, "o-", color=colour, linewidth=1.6, markersize=4, label=shorten(arm, 24))
        for x, gain in zip(at, gains, strict=True):
            if gain["low"] is not None:
                axes.plot([x, x], [gain["low"], gain["high"]], color=colour, linewidth=1.2, alpha=0.6)
        told.append(f"{arm} {number(values[0], 0, signed=True)} to {number(values[-1], 0, signed=True)}")
    axes.axhline(0, color=GREY, linewidth=1, zorder=0)
    axes.set_xticks(range(1, len(rounds) + 1))
    axes.set_xlabel("round", color=INK)
    return ", ".join(told)
