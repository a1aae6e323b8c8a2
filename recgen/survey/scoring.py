"""What the answers say: mean ranks with intervals, paired tests between sources, and how far respondents agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.metrics.statistics import bootstrap_mean, paired_difference
from recgen.report.text import interval, number, p_value, share
from recgen.survey.answers import read
from recgen.survey.questions import FOLDER

SHUFFLES = 1000


def score(run: str, answers: Sequence[str]) -> str:
    """Score a questionnaire, write the results into the run's folder, and return them as lines of text.

    Parameters
    ----------
    run
        The run that it was made of.
    answers
        Files that respondents downloaded.
    """
    study, ranks = read(Path(run), [Path(path) for path in answers])
    results = analyse(ranks, study.sources, study.seed)
    path = Path(run) / FOLDER / f"{study.name}.results.json"
    write_json(path, {"study": study.name, **results})
    return "\n".join([*lines(results), f"The numbers: {path}"])


def analyse(ranks: pd.DataFrame, sources: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the results of a study.

    Parameters
    ----------
    ranks
        Columns respondent, question, source and rank, as `recgen.survey.answers.read` returns them.
    sources
        The sources, in the order of the results.
    seed
        Seed of the resampling.

    Returns
    -------
    ``sources``: for each its mean rank (1 is best) with 95% intervals that resample respondents and that resample questions, and
    its share of first places; ``tests``: for each two the mean difference of their ranks in the same answer, with a sign-flip
    permutation test over respondents; ``agreement``: see `agreement`.
    """
    wide = ranks.pivot(index=["respondent", "question"], columns="source", values="rank").reset_index()
    people, asked = wide["respondent"].to_numpy(), wide["question"].to_numpy()
    draw = seed_for(seed, "a study's resampling")
    found = {}
    for source in sources:
        by_people, by_question = (
            bootstrap_mean(wide[source], units, draw).within((1, len(sources))) for units in (people, asked)
        )
        found[source] = {
            "mean_rank": by_people.as_json(),
            "over_questions": [by_question.low, by_question.high],
            "first": float((wide[source] == 1).mean()),
        }
    tests = []
    for a, b in combinations(sources, 2):
        entry = paired_difference(wide[a], wide[b], people, draw).as_json(a, b, "rank")
        tests.append({**entry, "test": "paired sign-flip permutation over respondents"})
    size = {"respondents": len(set(people)), "questions": len(set(asked)), "answers": len(wide)}
    return {**size, "sources": found, "tests": tests, "agreement": agreement(wide, sources, seed)}


def agreement(wide: pd.DataFrame, sources: Sequence[str], seed: int) -> dict[str, Any]:
    """Return how far respondents agree: Kendall's W of each question that two or more ranked, averaged.

    p is the share of `SHUFFLES` worlds, in which every answer is a random ranking, whose mean W is at least as large (1 added to
    both counts). W and p are None where no question was ranked twice.
    """
    tables = [
        rows[list(sources)].to_numpy(dtype=float) for _, rows in wide.groupby("question") if len(rows) > 1
    ]
    if not tables:
        return {"w": None, "p": None, "questions": 0}
    observed = float(np.mean([kendall_w(table) for table in tables]))
    rng = numpy_rng(seed, "a study's agreement")
    worlds = [np.mean([kendall_w(rng.permuted(table, axis=1)) for table in tables]) for _ in range(SHUFFLES)]
    reached = np.count_nonzero(np.array(worlds) >= observed - 1e-12)
    return {"w": observed, "p": float((1 + reached) / (SHUFFLES + 1)), "questions": len(tables)}


def kendall_w(ranks: np.ndarray) -> float:
    """Return Kendall's coefficient of concordance: 1 where all respondents rank alike, 0 where their ranks cancel out.

    Parameters
    ----------
    ranks
        ``[respondents, options]`` ranks 1 to n without ties.

    Examples
    --------
    >>> kendall_w(np.array([[1, 2, 3], [1, 2, 3]])), kendall_w(np.array([[1, 2, 3], [3, 2, 1]]))
    (1.0, 0.0)
    """
    people, options = ranks.shape
    totals = ranks.sum(axis=0)
    return float(12 * ((totals - totals.mean()) ** 2).sum() / (people**2 * (options**3 - options)))


def lines(results: dict[str, Any]) -> list[str]:
    """Return results as people read them."""
    size = f"{results['respondents']} respondents, {results['questions']} questions, {results['answers']} rankings"
    found = [
        size,
        "Mean rank (1 is best), 95% interval over respondents, over questions; share of first places",
    ]
    for source, values in sorted(
        results["sources"].items(), key=lambda entry: entry[1]["mean_rank"]["value"]
    ):
        mean = values["mean_rank"]
        people = interval(mean["low"], mean["high"], 2)
        asked = interval(values["over_questions"][0], values["over_questions"][1], 2)
        found.append(
            f"  {source:<20} {number(mean['value'], 2)}   {people}   {asked}   {share(values['first'])}"
        )
    found.append(f"Differences of rank ({len(results['tests'])} tests, not corrected for their number)")
    for test in results["tests"]:
        difference = (
            f"{number(test['difference'], 2, signed=True)} ({interval(test['low'], test['high'], 2)})"
        )
        found.append(f"  {test['a']} - {test['b']}: {difference}, {p_value(test['p'])}")
    agreed = results["agreement"]
    if agreed["w"] is None:
        return [*found, "Agreement: no question was ranked by two respondents"]
    w = f"Kendall's W {number(agreed['w'], 2)} over {agreed['questions']} questions"
    return [*found, f"Agreement: {w}, {p_value(agreed['p'])}"]
