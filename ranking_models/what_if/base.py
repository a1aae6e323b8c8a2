"""What a trained ranking model would say of an item if it had another image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import torch

from recgen.core.errors import UserError

if TYPE_CHECKING:
    from ranking_models.vbpr import VBPR
    from ranking_models.verifier import Verifier

CELLS_PER_CHUNK = 1 << 20
"""Requests x items handled at once; a hub image can touch every item, so this bounds the memory of the worst case."""


class WhatIf(ABC):
    """Scores and ranks of (user, item, replacement image), each request on its own.

    Ids are RecBole's internal ids. A rank is 0-based among all items except padding and the user's training items (the
    item itself always takes part): the number of items that score strictly higher, so ties go in the item's favour.
    `embeddings` are raw image embeddings, in the space of the model's own ``image`` features. Results are on the model's device.
    """

    model: Any

    def score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return float ``[B]``, the scores of users ``[B]`` for items ``[B]`` with images ``[B, D]``."""
        checked = self._check(users, items, embeddings)
        return self._in_chunks(self._score, checked, torch.float32)

    def rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return int64 ``[B]``, the ranks of items ``[B]`` for users ``[B]`` if the items had images ``[B, D]``."""
        checked = self._check(users, items, embeddings)
        return self._in_chunks(self._rank, checked, torch.int64)

    def score_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return float ``[B]``, the model's scores of users ``[B]`` for items ``[B]`` as they are."""
        return self._in_chunks(self._score_original, self._check(users, items), torch.float32)

    def rank_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return int64 ``[B]``, the ranks of items ``[B]`` for users ``[B]`` as they are."""
        return self._in_chunks(self._rank_original, self._check(users, items), torch.int64)

    def score_all(self, users: torch.Tensor) -> torch.Tensor:
        """Return float ``[B, n_items]``, the scores of users ``[B]`` for every item as it is; -inf for RecBole's padding item."""
        (checked,) = self._check(users, users.new_ones(len(users)))[:1]
        scores = self._in_chunks(self._all_scores, (checked,), torch.float32)
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
        return self._all_scores(users).gather(1, items[:, None])[:, 0]

    def _rank_original(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        scores = self._all_scores(users)
        return self._count_above(scores, scores.gather(1, items[:, None])[:, 0], users, items)

    def _count_above(
        self, scores: torch.Tensor, target: torch.Tensor, users: torch.Tensor, items: torch.Tensor
    ) -> torch.Tensor:
        """Return how many candidates score above `target` ``[B]`` in `scores` ``[B, n_items]``, which is overwritten."""
        scores[:, 0] = -torch.inf
        scores[self.model.history(users)] = -torch.inf
        scores.scatter_(1, items[:, None], -torch.inf)
        return (scores > target[:, None]).sum(1)

    @torch.no_grad()
    def _in_chunks(
        self, function: Any, arguments: tuple[torch.Tensor, ...], dtype: torch.dtype
    ) -> torch.Tensor:
        size = max(CELLS_PER_CHUNK // self.model.n_items, 1)
        chunks = zip(*(argument.split(size) for argument in arguments), strict=True)
        results = [function(*chunk) for chunk in chunks]
        return torch.cat(results) if results else torch.zeros(0, dtype=dtype, device=self.model.device)

    def _check(
        self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        device = self.model.device
        users, items = users.to(device), items.to(device)
        for name, ids, count in (("user", users, self.model.n_users), ("item", items, self.model.n_items)):
            wrong = ids[(ids < 1) | (ids >= count)]
            if len(wrong):
                raise UserError(
                    f"{name} id", found=str(int(wrong[0])), expected=f"a RecBole id from 1 to {count - 1}"
                )
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
        return users, items, embeddings.to(device, torch.float32)


class VerifierWhatIf(WhatIf):
    """The verifier's: an image changes nothing but its own score, a product; both modes are the same.

    Scores are logits: probabilities near 0 and 1 would tie in a rank, and would hardly move as a reward.
    """

    def __init__(self, model: Verifier) -> None:
        self.model = model.eval()
        with torch.no_grad():
            self.images = model.image(model.features("image"))

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self.model.logits(users, embeddings)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._count_above(self._all_scores(users), self.model.logits(users, embeddings), users, items)

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.model.user(users) @ self.images.T


class VBPRWhatIf(WhatIf):
    """VBPR's: an image changes nothing but its own item's preference, a product (equation 4); both modes are the same."""

    def __init__(self, model: VBPR) -> None:
        self.model = model.eval()

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self.model.preference(users, items, embeddings)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._count_above(self._all_scores(users), self._score(users, items, embeddings), users, items)

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.model.all_preferences(users)


def scorer(model: Any, mode: Literal["exact", "own_row"] = "exact") -> WhatIf:
    """Return the what-if scorer of a trained model.

    Parameters
    ----------
    model
        A ranking model with a method ``what_if(mode) -> WhatIf``; it is put in evaluation mode. Make a new scorer when its
        parameters have changed.
    mode
        ``exact``: equal to putting the image in, rebuilding the graphs and scoring again. ``own_row``: only the item's
        own neighbours are found anew; what that does to other items is left out.
    """
    if mode not in ("exact", "own_row"):
        raise UserError("what-if mode", found=repr(mode), expected="'exact' or 'own_row'")
    if not hasattr(model, "what_if"):
        raise UserError(
            f"ranking model {type(model).__name__}",
            found="no what-if scoring",
            expected="a method what_if(mode) -> WhatIf",
            todo="Choose MICRO, VBPR or Verifier as the reward.",
        )
    return model.what_if(mode)
