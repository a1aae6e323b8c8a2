"""Several images for a request, of which the recommender likes one best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from generators.base import Generator, Progress
from generators.common.sampling import Drawing, finish
from recgen.core.seeding import seed_for
from recgen.data.types import Creative, Request
from recgen.diffusion.sampling import Sampling
from recgen.recommender.reward import Scorer

_AT_ONCE = 64  # images that are held until the best of them are known


@dataclass(frozen=True, eq=False)
class Candidates:
    """The images that were drawn for one request.

    Attributes
    ----------
    images
        n images, RGB.
    recipes
        What the recipe of each says beside backbone and sampling.
    embeddings
        Their raw CLIP embeddings, float32 ``[n, D]``.
    scores
        The reward's scores of the request's user for its item with each image, float64 ``[n]``; NaN without a reward.
    """

    images: tuple[Image.Image, ...]
    recipes: tuple[dict[str, Any], ...]
    embeddings: np.ndarray
    scores: np.ndarray

    def best(self, among: np.ndarray | None = None) -> int:
        """Return the place of the highest score, the first of equal ones and the first of all without a reward.

        Parameters
        ----------
        among
            bool ``[n]``, the images that may be chosen; None, or none of them, leaves all.
        """
        places = np.arange(len(self.scores))
        if among is not None and among.any():
            places = places[among]
        scores = self.scores[places]
        return int(places[0 if np.isnan(scores).all() else np.nanargmax(scores)])


def candidate_seeds(request: Request, count: int) -> list[int]:
    """Return seeds for `count` images of one request: the request's own, then others that follow from it.

    Examples
    --------
    >>> seeds = candidate_seeds(Request("u", "i", 5), 3)
    >>> seeds[0], len(set(seeds)), seeds[:2] == candidate_seeds(Request("u", "i", 5), 2)
    (5, 3, True)
    """
    others = (
        seed_for(request.seed, f"candidate {place}", request.user_id, request.item_id)
        for place in range(1, count)
    )
    return [request.seed, *others]


def draw_candidates(
    generator: Generator,
    requests: Sequence[Request],
    drawings: Sequence[Sequence[Drawing]],
    reward: Scorer | None,
    sampling: Sampling,
) -> Iterator[Candidates]:
    """Draw, encode and score several images for each request, in batches, and yield them request by request.

    Parameters
    ----------
    generator
        Its backbone draws, its encoder encodes.
    requests
        The requests.
    drawings
        For each request its conditions, at least one, with what the recipe says of each.
    reward
        What scores them, a ranking model for one. None leaves the scores NaN.
    sampling
        How the images are sampled.

    Raises
    ------
    ValueError
        If there are not as many lists of conditions as requests, or one of them is empty.
    """
    if len(drawings) != len(requests) or not all(drawings):
        raise ValueError(
            f"{len(drawings)} lists of conditions for {len(requests)} requests, each with one at least"
        )
    for start, stop in _blocks([len(each) for each in drawings]):
        yield from _block(generator, requests[start:stop], drawings[start:stop], reward, sampling)


def _blocks(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of requests whose images are held together."""
    start, held = 0, 0
    for place, count in enumerate(counts):
        if held and held + count > _AT_ONCE:
            yield start, place
            start, held = place, 0
        held += count
    if held:
        yield start, len(counts)


def _block(
    generator: Generator,
    requests: Sequence[Request],
    drawings: Sequence[Sequence[Drawing]],
    reward: Scorer | None,
    sampling: Sampling,
) -> Iterator[Candidates]:
    flat = [drawing for each in drawings for drawing in each]
    images = list(generator.backbone.generate([condition for condition, _ in flat], sampling))
    embeddings = generator.encoder.images(images)
    asked = [request for request, each in zip(requests, drawings, strict=True) for _ in each]
    scores = _scores(reward, asked, embeddings)
    stop = 0
    for each in drawings:
        start, stop = stop, stop + len(each)
        recipes = tuple(recipe for _, recipe in each)
        yield Candidates(tuple(images[start:stop]), recipes, embeddings[start:stop], scores[start:stop])


def _scores(reward: Scorer | None, asked: Sequence[Request], embeddings: np.ndarray) -> np.ndarray:
    if reward is None:
        return np.full(len(asked), np.nan)
    users, items = [request.user_id for request in asked], [request.item_id for request in asked]
    return np.asarray(reward.score(users, items, embeddings).detach().cpu(), dtype=np.float64)


def draw_best(
    generator: Generator,
    requests: Sequence[Request],
    drawings: Sequence[Sequence[Drawing]],
    reward: Scorer | None,
    sampling: Sampling,
    progress: Progress,
    keeps: Callable[[Request, np.ndarray], np.ndarray] | None = None,
) -> Iterator[Creative]:
    """Yield for each request the candidate with the highest score; the recipe names its place and everybody's scores.

    Parameters and errors are those of `draw_candidates`; `progress` is called after every request.

    Parameters
    ----------
    keeps
        Returns, bool ``[n]``, which of a request's images, given by their embeddings ``[n, D]``, may be chosen; where none
        may, all may. The recipe has it as ``kept``.
    """

    def best() -> Iterator[tuple[Image.Image, dict[str, Any]]]:
        found = draw_candidates(generator, requests, drawings, reward, sampling)
        for request, each in zip(requests, found, strict=True):
            among = None if keeps is None else keeps(request, each.embeddings)
            place = each.best(among)
            scores = [None if np.isnan(score) else round(float(score), 4) for score in each.scores]
            chosen: dict[str, Any] = {"candidate": place, "scores": scores}
            if among is not None:
                chosen["kept"] = among.tolist()
            yield each.images[place], {**each.recipes[place], **chosen}

    yield from finish(generator, requests, best(), sampling, progress)
