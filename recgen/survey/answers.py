"""Reads the files that respondents downloaded, JSON or CSV, and checks them against the questionnaire's key."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from recgen.core.errors import UserError
from recgen.survey.questions import Study

_COLUMNS = ("study", "respondent", "question", "option", "rank")


class Answer(BaseModel):
    """One ranked question: its number, and its letters from the most to the least appealing."""

    model_config = ConfigDict(extra="ignore")

    question: int
    ranking: list[str]


class Sheet(BaseModel):
    """What one respondent downloaded."""

    model_config = ConfigDict(extra="ignore")

    study: str
    respondent: str
    answers: list[Answer]


def read(run: Path, files: Sequence[Path]) -> tuple[Study, pd.DataFrame]:
    """Return a questionnaire's key and everybody's ranks.

    Parameters
    ----------
    run
        The run that the questionnaire was made of.
    files
        Downloaded files, one or more for each respondent.

    Returns
    -------
    The key, and a table with columns respondent, question (from 1), source and rank (1 is the most appealing).

    Raises
    ------
    UserError
        For a file that is no sheet of answers, answers to several questionnaires or to one of another run, a ranking that is not
        of the question's images, or a respondent who answered a question twice.
    """
    sheets = [(str(path), sheet) for path in files for sheet in _sheets(path)]
    if not sheets:
        raise UserError("--answers", found="no answers", expected="files downloaded from the questionnaire")
    where, first = sheets[0]
    study = Study.read(run, first.study, where)
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[str, int], str] = {}
    for where, sheet in sheets:
        if sheet.study != study.name:
            raise UserError(
                where, found=f"answers to {sheet.study!r}", expected=f"answers to {study.name!r} alone"
            )
        for answer in sheet.answers:
            options = _options(study, answer, where)
            key = (sheet.respondent, answer.question)
            if key in seen:
                raise UserError(
                    where,
                    found=f"question {answer.question} by {sheet.respondent!r} again, after {seen[key]}",
                    expected="one answer of each respondent to each question",
                )
            seen[key] = where
            shared = {"respondent": sheet.respondent, "question": answer.question}
            rows += [
                {**shared, "source": options[letter], "rank": rank}
                for rank, letter in enumerate(answer.ranking, start=1)
            ]
    if not rows:
        raise UserError("--answers", found="no question with a full ranking", expected="one or more")
    return study, pd.DataFrame(rows)


def _options(study: Study, answer: Answer, where: str) -> dict[str, str]:
    if not 1 <= answer.question <= len(study.questions):
        raise UserError(where, found=f"question {answer.question}", expected=f"1 to {len(study.questions)}")
    options = study.questions[answer.question - 1].options
    if sorted(answer.ranking) != sorted(options):
        raise UserError(
            f"{where}, question {answer.question}",
            found=f"the ranking {', '.join(answer.ranking)}",
            expected=f"each of {', '.join(options)} once",
        )
    return options


def _sheets(path: Path) -> list[Sheet]:
    """Return what a file holds: one sheet, or in a CSV one for each respondent."""
    expected = "a file downloaded from the questionnaire"
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("{"):
            return [Sheet.model_validate(json.loads(text))]
        return _from_csv(text)
    except FileNotFoundError as error:
        raise UserError(str(path), found="no such file", expected=expected) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key}", found=repr(first["input"])[:200], expected=first["msg"]) from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:  # JSON and text that is neither
        raise UserError(str(path), found=f"{error}"[:200], expected=expected) from error


def _from_csv(text: str) -> list[Sheet]:
    reader = csv.DictReader(text.splitlines())
    absent = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
    if absent:
        raise ValueError(f"no column {absent[0]!r}")
    sheets: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = {}
    for row in reader:
        if None in row.values():
            raise ValueError(f"line {reader.line_num}: fewer columns than the first line")
        sheet = sheets.setdefault((row["study"], row["respondent"]), {})
        sheet.setdefault(row["question"], []).append((int(row["rank"]), row["option"]))
    found = []
    for (study, respondent), asked in sheets.items():
        for number, ranks in asked.items():
            if sorted(rank for rank, _ in ranks) != list(range(1, len(ranks) + 1)):
                raise ValueError(
                    f"question {number} by {respondent!r} with ranks other than 1 to {len(ranks)}, each once"
                )
        given = [
            {"question": number, "ranking": [letter for _, letter in sorted(ranks)]}
            for number, ranks in asked.items()
        ]
        found.append(Sheet.model_validate({"study": study, "respondent": respondent, "answers": given}))
    return found
