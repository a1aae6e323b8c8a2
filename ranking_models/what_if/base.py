"""What a trained ranking model would say of an item if it had another image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch

from recgen.core.errors import UserError

CELLS_PER_CHUNK = 1 << 22
"""Requests x items handled at once: 16 MB a matrix, which stays in the caches; at 100,000 items four times as many and a quarter
as many were a third slower. A hub image can touch every item, so this bounds the memory of the worst case too."""


class ImageModel(Protocol):
    """What a scorer asks of a model beside its scores; `ranking_models.base.FeatureRecommender` has it all.

    Attributes
    ----------
    n_users, n_items
        Numbers of RecBole's internal ids, padding included.
    device
        Where results are.
    """

    n_users: int
    n_items: int
    device: Any

    def features(self, modality: str) -> torch.Tensor:
        """Return the raw features of a modality, float32 ``[n_items, D]``."""

    def history(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (position in `users`, item) of every training interaction of the users ``[B]``, as two ``[P]`` tensors."""


class WhatIf(ABC):
    """Scores and ranks of (user, item, replacement image), each request on its own.

    Ids are RecBole's internal ids. A rank is 0-based among all items except padding and the user's training items (the
    item itself always takes part): the number of items that score strictly higher, so ties go in the item's favour.
    `embeddings` are raw image embeddings, in the space of the model's own ``image`` features. Results are on the model's device.
    """

    def __init__(self, model: ImageModel) -> None:
        self.model = model

    def score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return float ``[B]``, the scores of users ``[B]`` for items ``[B]`` with images ``[B, D]``."""
        checked = self._check(users, items, embeddings)
        return self._in_chunks(self._score, checked)

    def rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return int64 ``[B]``, the ranks of items ``[B]`` for users ``[B]`` if the items had images ``[B, D]``."""
        checked = self._check(users, items, embeddings)
        return self._in_chunks(self._rank, checked)

    def score_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return float ``[B]``, the model's scores of users ``[B]`` for items ``[B]`` as they are."""
        return self._in_chunks(self._score_original, self._check(users, items))

    def rank_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return int64 ``[B]``, the ranks of items ``[B]`` for users ``[B]`` as they are."""
        return self._in_chunks(self._rank_original, self._check(users, items))

    def differentiable(
        self, users: torch.Tensor, items: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Return `score` of fixed users ``[B]`` and items ``[B]`` as a function of embeddings ``[B, D]`` that gradients pass.

        None for a model whose score does not follow from the image by differentiable steps, such as MICRO, where it acts through
        the item's neighbours.
        """
        return None

    def score_all(self, users: torch.Tensor) -> torch.Tensor:
        """Return float ``[B, n_items]``, the model's scores of users ``[B]`` for every item with its own image.

        They are what `score_original` says item by item, and order items as the model's ``full_sort_predict`` does; of a
        model whose predictions are probabilities they are the logits. RecBole's padding item, 0, has -inf. For B = 0 the
        result is ``[0, n_items]``.
        """
        checked = self._check_ids("user", users, self.model.n_users)
        scores = self._in_chunks(self._all_scores, (checked,))
        scores[:, 0] = -torch.inf
        return scores

    @abstractmethod
    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        """Scores ``[B, n_items]`` of every item as it is."""

    def _score_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self._all_scores(users).gather(1, items[:, None]).squeeze(1)

    def _rank_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        scores = self._all_scores(users)
        return self._count_above(scores, scores.gather(1, items[:, None]).squeeze(1), users, items)

    def _count_above(
        self, scores: torch.Tensor, target: torch.Tensor, users: torch.Tensor, items: torch.Tensor
    ) -> torch.Tensor:
        """Return how many candidates score above `target` ``[B]`` in `scores` ``[B, n_items]``, which is overwritten."""
        scores[:, 0] = -torch.inf
        scores[self.model.history(users)] = -torch.inf
        scores.scatter_(1, items[:, None], -torch.inf)
        return (scores > target[:, None]).sum(1)

    @torch.no_grad()
    def _in_chunks(self, function: Any, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        size = max(CELLS_PER_CHUNK // self.model.n_items, 1)
        chunks = zip(*(argument.split(size) for argument in arguments), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks])

    def _check(
        self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        users = self._check_ids("user", users, self.model.n_users)
        items = self._check_ids("item", items, self.model.n_items)
        if embeddings is None:
            return users, items
        width = self.model.features("image").shape[1]
        if embeddings.shape != (len(users), width) or not embeddings.isfinite().all():
            raise UserError(
                "what-if embeddings",
                found=f"shape {tuple(embeddings.shape)}"
                + ("" if embeddings.isfinite().all() else " with NaN or infinity"),
                expected=f"finite numbers of shape ({len(users)}, {width}), as the model's image features",
            )
        return users, items, embeddings.to(self.model.device)

    def _check_ids(self, name: str, ids: torch.Tensor, count: int) -> torch.Tensor:
        wrong = ids[(ids < 1) | (ids >= count)]
        if len(wrong):
            raise UserError(
                f"{name} id", found=str(int(wrong[0])), expected=f"a RecBole id from 1 to {count - 1}"
            )
        return ids.to(self.model.device)
