"""Keywords of items by a language model, RAGAR eq. 6: w_i = LLM_k(p_k(cap_i, txt_i)); and the frequent ones of a history, w'."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgen.assets import asset_folder
from recgen.core.errors import UserError
from recgen.core.io import identity, write_parquet
from recgen.core.progress import show
from recgen.features.prompts import item_prompt

if TYPE_CHECKING:
    from recgen.config.schema import Endpoint
    from recgen.features.endpoint import CompletionCache
    from recgen.pipeline.context import RunContext

logger = logging.getLogger("recgen")

CACHE = "answers.sqlite"
_TOKENS_PER_KEYWORD = 6
_BLOCK = 512  # prompts of which a kill can cost the local model's answers
_LONGEST = 40  # characters of a keyword; more is a sentence
_SEPARATORS = re.compile(r"[,;\n|•·]+")
_EDGES = " .:'\"`*_()[]{}<>“”‘’"
_NOTHING = {"none", "n/a", "and", "keywords"}
_BEFORE = re.compile(r"^(?:\W*keywords?\W*:|\s*(?:\d+[.)]|[-*–])\s)\s*", re.IGNORECASE)


def compute(run: RunContext) -> list[Path]:
    """Find the keywords of every item that has a caption or a text, and write features/keywords.parquet (item_id, keywords).

    Answers are kept on disk as they come, by model and prompt: an interrupted run goes on where it was, and equal items are
    asked about once.
    """
    import pandas as pd

    n = run.settings.keywords.n
    table, items = pd.read_parquet(run.folder / "features/captions.parquet"), run.items
    captions = dict(zip(table["item_id"], table["caption"], strict=True))
    prompts = {
        token: item_prompt(captions.get(token, ""), text, n)
        for token, text in zip(items["item_id"], items["text"], strict=True)
        if text or captions.get(token)
    }
    answers = answered(
        run, list(dict.fromkeys(prompts.values())), n, run.settings.keywords.endpoint, "keywords"
    )
    words = [clean(answers[prompt], n) for prompt in prompts.values()]
    logger.info("  keywords: %d of %d items have some", sum(map(bool, words)), len(items))
    path = run.folder / "features/keywords.parquet"
    write_parquet(path, pd.DataFrame({"item_id": list(prompts), "keywords": words}))
    return [path]


def answered(
    run: RunContext, prompts: Sequence[str], n: int, endpoint: Endpoint | None, what: str
) -> dict[str, str]:
    """Return the answer to each prompt: kept ones from disk, the others from the endpoint or the run's language model.

    Parameters
    ----------
    run
        The run, whose folder keeps the answers.
    prompts
        What is asked, each once; an answer is of at most `n` words or short phrases.
    endpoint
        A service that answers; None leaves it to the run's language model.
    what
        ``keywords`` or ``tags``, for messages.
    """
    from recgen.features.endpoint import CompletionCache

    llm, max_tokens = run.settings.llm, _TOKENS_PER_KEYWORD * n
    if endpoint is not None:
        model, file = [endpoint.url, endpoint.model], endpoint.cache
    elif llm is not None:
        model, file = [llm, identity(asset_folder(llm))], None
    else:
        raise UserError(
            f"{run.config.source}: recgen.llm",
            found=f"null, and no recgen.{what}.endpoint",
            expected=f"one of them: a generator of this run asks for {what} of items",
        )
    answers = CompletionCache(run.folder / CACHE if file is None else Path(file), [model, max_tokens])
    try:
        missing = [prompt for prompt in prompts if answers.get(prompt) is None]
        if len(missing) < len(prompts):
            logger.info(
                "  %s: %d of %d answers are there already", what, len(prompts) - len(missing), len(prompts)
            )
        if missing and endpoint is not None:
            ask(endpoint, missing, n, answers, what)
        elif missing:
            _write(run, missing, max_tokens, answers, what)
        return {prompt: answers.get(prompt) or "" for prompt in prompts}
    finally:
        answers.close()


def ask(
    endpoint: Endpoint,
    prompts: Sequence[str],
    n: int,
    answers: CompletionCache,
    what: str,
    message: Callable[[str], Any] = str,
) -> None:
    """Ask a service and keep each answer, of at most `n` words, as it comes; see `ChatService.ask` for `message`."""
    from recgen.features.endpoint import ChatService

    done = count(1)

    def keep(prompt: str, answer: str) -> None:
        answers.put([prompt], [answer])
        show(f"features: {what}", next(done), len(prompts))

    ChatService(endpoint, f"recgen.{what}.endpoint").ask(prompts, _TOKENS_PER_KEYWORD * n, keep, message)


def _write(
    run: RunContext, prompts: Sequence[str], max_tokens: int, answers: CompletionCache, what: str
) -> None:
    model = run.language_model
    assert model is not None
    for start in range(0, len(prompts), _BLOCK):
        block = prompts[start : start + _BLOCK]
        answers.put(block, model.complete(block, max_tokens))
        show(f"features: {what}", min(start + _BLOCK, len(prompts)), len(prompts))


def clean(answer: str, n: int) -> list[str]:
    """Return the keywords of a model's answer: lower case, without numbering, quotes and stops, each once, at most `n`.

    They are separated by commas, semicolons or lines; what is longer than a few words is talk and left out.

    >>> clean("Keywords: 1. Red Skull; dots, 'Dots'.", 8)
    ['red skull', 'dots']
    """
    pieces = (_BEFORE.sub("", _BEFORE.sub("", piece)) for piece in _SEPARATORS.split(answer.lower()))
    words = (" ".join(piece.split()).strip(_EDGES) for piece in pieces)
    return list(
        dict.fromkeys(word for word in words if word and len(word) <= _LONGEST and word not in _NOTHING)
    )[:n]


def top_keywords(lists: Iterable[Sequence[str]], n: int, min_count: int = 2) -> list[str]:
    """Return w' of RAGAR section 4.3: a history's most frequent keywords, at most `n`, the most frequent first.

    Parameters
    ----------
    lists
        The keyword list of each item of the history; a keyword counts once an item. Ties go by first appearance.
    n
        How many to return.
    min_count
        A keyword of fewer items is left out, unless that leaves nothing.
    """
    counts = Counter(word for words in lists for word in dict.fromkeys(words))
    ranked = [word for word, _ in counts.most_common()]  # equal counts stay in order of first appearance
    frequent = [word for word in ranked if counts[word] >= min_count]
    return (frequent or ranked)[:n]
