"""The evaluate stage's likenesses in CLIP space: to what the user likes, and to the item's own image and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recgen.data.requests import HISTORY
from recgen.features.keywords import Keywords
from recgen.features.tagger import tag_groups
from recgen.features.vocabulary import read_vocabulary, vocabulary_file
from recgen.metrics import personalisation, semantics
from recgen.pipeline.context import RunContext
from recgen.stages.creative_batch import CreativeBatch

Columns = dict[str, Any]


def by_clip(run: RunContext, made: CreativeBatch) -> Columns:
    """Similarities in CLIP space to the user's history and words, and to the item's own image and text."""
    data, pairs = run.data, list(zip(made.users, made.items, strict=True))
    histories = {(request.user_id, request.item_id): request.history for request in run.requests}
    place = semantics.retrieval_rank(made.embeddings, data.image_features, made.rows)
    return {
        **{f"retrieved_top{k}": np.where(np.isnan(place), np.nan, place < k) for k in (1, 10)},
        **_likeness_to_likes(run, made, [histories[pair] for pair in pairs], ""),
        **_likeness_to_held_out(run, made, pairs),
        **_topics(run, made),
        "cs": semantics.cs(made.embeddings, data.text_features[made.rows]),
        "cis": semantics.cis(made.embeddings, data.image_features[made.rows]),
    }


def _likeness_to_likes(
    run: RunContext, made: CreativeBatch, liked: Sequence[Sequence[str]], ending: str
) -> Columns:
    """CPS and CPIS against liked items' words and images; `liked` has the tokens for each creative."""
    data = run.data
    keywords, rows = Keywords(data.texts), data.item_rows
    words = [", ".join(keywords.of(data.texts[rows[item]] for item in items)) for items in liked]
    taste = run.models.encoder.texts(words)
    taste[[not sentence for sentence in words]] = np.nan
    shown = [[rows[item] for item in items if data.images[rows[item]] is not None] for items in liked]
    return {
        f"cps{ending}": personalisation.cps(made.embeddings, taste),
        f"cpis{ending}": personalisation.cpis(made.embeddings, data.image_features, shown),
    }


def _likeness_to_held_out(run: RunContext, made: CreativeBatch, pairs: Sequence[tuple[str, str]]) -> Columns:
    """The same against likes that conditioned nothing, where the run has held some out."""
    if not run.holds_out:
        return {}
    table = pd.read_parquet(run.folder / "dataset/requests.parquet")
    held = dict(
        zip(zip(table["user_id"], table["item_id"], strict=True), table["held_out"].map(list), strict=True)
    )
    return _likeness_to_likes(run, made, [held[pair][-HISTORY:] for pair in pairs], "_held_out")


def _topics(run: RunContext, made: CreativeBatch) -> Columns:
    """Topic precision of content and of style; the topics are the phrases of the tagger's vocabulary."""
    vocabulary = read_vocabulary(vocabulary_file(run.settings.tagger, run.settings.encoder))
    images = run.data.image_features
    wanted = sorted({row for history in made.histories for row in history})
    place = {row: number for number, row in enumerate(wanted)}
    columns: Columns = {}
    for what, style in (("content", False), ("style", True)):
        names = [name for name in vocabulary.groups if (name in vocabulary.style) == style]
        if not names:
            continue
        chosen = vocabulary.model_copy(update={"groups": {name: vocabulary.groups[name] for name in names}})
        own, liked = (
            tag_groups(rows, chosen, run.models.encoder) for rows in (made.embeddings, images[wanted])
        )
        histories = [[liked[place[row]] for row in history] for history in made.histories]
        columns[f"topic_precision_{what}"] = personalisation.topic_precision(own, histories)
    return columns
