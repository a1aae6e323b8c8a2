"""What a questionnaire asks: which requests, whose images, in which order; and the key that says whose they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase

from recgen.core.errors import UserError, nearest
from recgen.core.io import digest, write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.report.run_files import RunFiles

ORIGINAL = "ORI"
FOLDER = "study"
"""Folder of a run that holds the keys of its questionnaires, and their results."""


@dataclass(frozen=True)
class Question:
    """One item for one user; `options` names the source behind each of the letters a, b, c, ..."""

    user_id: str
    item_id: str
    options: dict[str, str]


@dataclass(frozen=True)
class Study:
    """A questionnaire's key.

    Attributes
    ----------
    name
        Follows from everything else, so that an answer fits one key only.
    seed
        Which requests are asked about, and which letter is whose, follows from it.
    sources
        Whose images are compared: generators, and ORI for the items' own.
    questions
        What is asked, in the order of the file.
    """

    name: str
    seed: int
    sources: list[str]
    questions: list[Question]

    def write(self, run: Path) -> Path:
        """Write the key into the run's folder and return its path."""
        path = run / FOLDER / f"{self.name}.json"
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, run: Path, name: str, where: str) -> Study:
        """Read a key; `where` names the file of answers that asks for it.

        Raises
        ------
        UserError
            If the run has no questionnaire of that name.
        """
        known = {
            path.stem: path for path in (run / FOLDER).glob("*.json") if not path.stem.endswith(".results")
        }
        if name not in known:
            raise UserError(
                where,
                found=f"answers to the questionnaire {name!r}",
                expected=f"one that was made of {run}: {', '.join(sorted(known)) or 'there is none'}",
                todo="Give the run that it was made of with --run.",
            )
        kept = json.loads(known[name].read_text(encoding="utf-8"))
        return cls(
            kept["name"], kept["seed"], kept["sources"], [Question(**each) for each in kept["questions"]]
        )


def plan(files: RunFiles, items: int, sources: Sequence[str], seed: int) -> Study:
    """Choose what a questionnaire asks.

    Parameters
    ----------
    files
        The run.
    items
        How many questions.
    sources
        Whose images to compare; none for all generators of the run and ORI.
    seed
        See `Study`.

    Raises
    ------
    UserError
        For an unknown source, or where no request has an image of every source.
    """
    made = list(dict.fromkeys(generator for _, _, generator in files.creatives))
    chosen = list(dict.fromkeys(sources)) or [ORIGINAL, *made]
    for source in chosen:
        if source not in (ORIGINAL, *made):
            raise UserError(
                f"--source {source}",
                found="no such source",
                expected=", ".join([ORIGINAL, *made]),
                todo=nearest(source, [ORIGINAL, *made]),
            )
    if not 2 <= len(chosen) <= len(ascii_lowercase):
        raise UserError(
            "--source", found=f"{len(chosen)} of them", expected="two or more, whose images are compared"
        )
    asked = _requests(files, chosen, items, seed)
    questions = [_question(user, item, chosen, seed) for user, item in asked]
    name = digest([seed, chosen, [asdict(each) for each in questions]])[:12]
    return Study(name, seed, chosen, questions)


def image(files: RunFiles, user: str, item: str, source: str) -> Path | None:
    """Return where a source's image of an item for a user lies; None where it has none."""
    if source == ORIGINAL:
        return files.items.get(item, ("", None))[1]
    return files.creatives.get((user, item, source))


def _requests(files: RunFiles, sources: Sequence[str], items: int, seed: int) -> list[tuple[str, str]]:
    """Return `items` requests that have an image of every source and a history: no item twice while there are others."""
    able = [
        (user, item)
        for (user, item), history in files.histories.items()
        if history and all(image(files, user, item, source) is not None for source in sources)
    ]
    if not able:
        raise UserError(
            str(files.folder),
            found=f"no request with a history and an image of each of {', '.join(sources)}",
            expected="a run that is finished up to generate",
        )
    drawn = sorted(able, key=lambda pair: seed_for(seed, "a study's requests", *pair))
    first: dict[str, tuple[str, str]] = {}
    for pair in drawn:
        first.setdefault(pair[1], pair)
    once = list(first.values())
    return [*once, *(pair for pair in drawn if pair not in set(once))][:items]


def _question(user: str, item: str, sources: Sequence[str], seed: int) -> Question:
    order = numpy_rng(seed, "a study's letters", user, item).permutation(len(sources))
    return Question(user, item, {ascii_lowercase[place]: sources[each] for place, each in enumerate(order)})
