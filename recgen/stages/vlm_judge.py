"""The evaluate stage's questions to a vision-language model: which of two images of an item would this user prefer?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.config.metrics import VlmJudge
from recgen.core.seeding import seed_for
from recgen.features.completion import CACHE, CompletionCache, by_service, complete_missing
from recgen.features.tags import image_digest, image_part
from recgen.metrics import pairwise
from recgen.metrics.registry import SHARE
from recgen.metrics.statistics import bootstrap_mean
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import SWAPPED
from recgen.stages.creative_batch import CreativeBatch
from recgen.stages.generate import creatives

PREFERENCE, FIRST_PLACE = "vlm_preference", "vlm_first_place"
WHERE = "recgen.metrics.vlm.endpoint"
_INTRODUCTION = "A person liked these images:"
_QUESTION = (
    "Images 1 and 2 are two images for one and the same item. Which of the two would this person prefer? "
    "Answer with the number 1 or 2 and nothing else."
)
_LONGEST = 16  # tokens of an answer


@dataclass(frozen=True)
class Question:
    """The images of one question: what the user liked, then the two to choose from."""

    liked: tuple[Path, ...]
    first: Path
    second: Path

    def swapped(self) -> Question:
        """Return the question in the other order."""
        return Question(self.liked, self.second, self.first)

    def key(self) -> str:
        """Return what the answer is kept under: the words, and the images by their contents."""
        images = [
            *map(image_digest, self.liked),
            "1",
            image_digest(self.first),
            "2",
            image_digest(self.second),
        ]
        return "\n".join([_INTRODUCTION, *images, _QUESTION])

    def message(self) -> list[dict[str, Any]]:
        """Return a chat message's content in OpenAI's form."""
        parts = [_text(_INTRODUCTION), *map(image_part, self.liked)]
        parts += [_text("Image 1:"), image_part(self.first), _text("Image 2:"), image_part(self.second)]
        return [*parts, _text(_QUESTION)]


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def by_vlm(
    run: RunContext, made: CreativeBatch
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Ask about one generator's creatives.

    Returns
    -------
    tuple
        The column of the model's preference (`recgen.metrics.pairwise.preference`; NaN for requests that it was not asked about);
        the share of answers that name the first place, with its interval, beside metrics of sets; and a record of what was asked
        and how many answers could not be read. All empty where the run has no such judge.
    """
    settings = run.settings.metrics.vlm
    if settings is None or made.name not in run.settings.generators:
        return {}, {}, {}
    questions = _questions(run, made, settings)
    both = [[asked, asked.swapped()] for asked in questions.values()]
    answers = _answers(run, settings, {each.key(): each for each in chain(*both)})
    places = np.array([pairwise.first_places([answers[each.key()] for each in pair]) for pair in both])
    places = places.reshape(-1, 2)
    rows = np.array([*questions], dtype=np.int64)
    column = np.full(len(made.users), np.nan)
    column[rows] = pairwise.preference(places[:, 0], places[:, 1])
    users = np.repeat(np.array(made.users, dtype=object)[rows], 2)
    lean = bootstrap_mean(places.ravel(), users, seed_for(run.settings.seed, f"bootstrap {FIRST_PLACE}"))
    unread = int(np.isnan(places).sum())
    record = {"against": settings.against, "answers": places.size, "unread": unread}
    return {PREFERENCE: column}, {FIRST_PLACE: lean.within(SHARE).as_json()}, record


def _questions(run: RunContext, made: CreativeBatch, settings: VlmJudge) -> dict[int, Question]:
    """Return questions with the creative first, by row of `made`; none where the user liked no image or the item has no other."""
    other, liked = _opponents(run, made, settings), _liked(run, made)
    possible = [row for row, path in enumerate(other) if path is not None and liked[row]]
    pairs = {row: (made.users[row], made.items[row]) for row in possible}
    drawn = sorted(possible, key=lambda row: seed_for(run.settings.seed, "vlm judge", *pairs[row]))
    found = {}
    for row in sorted(drawn[: settings.requests]):
        opponent = other[row]
        assert opponent is not None
        found[row] = Question(tuple(liked[row][-settings.liked :]), made.paths[row], opponent)
    return found


def _opponents(run: RunContext, made: CreativeBatch, settings: VlmJudge) -> list[Path | None]:
    """Return the image that stands beside each creative; None where there is none."""
    if settings.against == "original":
        return [run.data.images[row] for row in made.rows]
    table, _ = creatives(run, f"{SWAPPED}{made.name}")
    pairs = zip(table["user_id"], table["item_id"], strict=True)
    there = dict(zip(pairs, (run.folder / path for path in table["path"]), strict=True))
    return [there.get(pair) for pair in zip(made.users, made.items, strict=True)]


def _liked(run: RunContext, made: CreativeBatch) -> list[list[Path]]:
    """Return the images that each creative's user liked, the latest last: of held-out likes where the run has some."""
    images, rows = run.data.images, run.data.item_rows
    histories = made.histories
    if run.holds_out:
        table = pd.read_parquet(run.folder / "dataset/requests.parquet")
        pairs = zip(table["user_id"], table["item_id"], strict=True)
        held = dict(zip(pairs, table["held_out"], strict=True))
        histories = [[rows[item] for item in held[pair]] for pair in zip(made.users, made.items, strict=True)]
    return [[path for row in history if (path := images[row]) is not None] for history in histories]


def _answers(run: RunContext, settings: VlmJudge, asked: dict[str, Question]) -> dict[str, str]:
    """Return the service's answer to each question, by key; an answer that is there is not asked for again."""
    endpoint = settings.endpoint
    cache = CompletionCache(
        Path(endpoint.cache or run.folder / CACHE), [endpoint.public_url, endpoint.model, "pairs"]
    )
    answer = by_service(endpoint, _LONGEST, WHERE, lambda key: asked[key].message())
    return complete_missing(list(asked), cache, answer, "preferences", "evaluate")
