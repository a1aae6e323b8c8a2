"""What a generator is told by a recommender: `RewardModel`, and `Ranker`, which answers from a trained RecBole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike
    from torch import Tensor


_SCORES = 1 << 24
"""Scores of whole catalogues that are held at once: 64 MB."""


class Scorer(Protocol):
    """Whatever scores images of items for users; a `RewardModel` is one."""

    def score(self, users: Sequence[str], items: Sequence[str], embeddings: np.ndarray, /) -> Tensor:
        """Return float ``[B]``: each user's score of each item with the image of ``embeddings[b]``, float32 ``[B, D]``."""


class RewardModel(Protocol):
    """A trained ranking model that scores and ranks images, asked in users' and items' tokens.

    Each of B requests is a user, an item and an image that would replace the item's own, as its raw image embedding
    ``[D]`` of the run's encoder; requests do not influence each other. Scores are the model's own: of a model trained on
    likes and dislikes they are logits. A rank is 0-based, among all items but the user's training items.
    """

    def score(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Return float32 ``[B]``: each user's score of each item with the image of ``embeddings[b]``, ``[B, D]``."""

    def probability(
        self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor
    ) -> Tensor:
        """Return float32 ``[B]``: P(like), for a model whose scores are logits. Arguments as for `score`."""

    def rank(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Return int64 ``[B]``: the rank each item would have with that image. Arguments as for `score`."""

    def score_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Return float32 ``[B]``: the scores with the items' own images."""

    def rank_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Return int64 ``[B]``: the ranks with the items' own images."""

    def score_all(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Return float32 ``[B, N]``: the scores of B users for each of N items, with the items' own images."""

    def differentiable(self, users: Sequence[str], items: Sequence[str]) -> Callable[[Tensor], Tensor] | None:
        """Return `score` of B users and items as a function of embeddings ``[B, D]`` that gradients pass.

        None for a model without a gradient with respect to the image, such as MICRO.
        """

    def unseen(self) -> pd.DataFrame:
        """Return encounters the model was not trained on: columns user_id, item_id (tokens) and like (bool).

        Whoever weighs what the model says against something else learns the weights from these.
        """


class Ranker:
    """A `RewardModel` from a trained RecBole model.

    Parameters
    ----------
    model
        The model, whose parameters must not change any more; it is put in evaluation mode.
    dataset
        The RecBole dataset that the model was trained on, whose ids it uses.
    mode
        How a replaced image is scored: ``exact`` or ``own_row``, see `ranking_models.what_if.scorer`.

    Raises
    ------
    UserError
        When the model reads no images.
    """

    def __init__(self, model: Any, dataset: Any, mode: str = "exact") -> None:
        from ranking_models.what_if import scorer

        self.model, self.dataset = model, dataset
        self.what_if = scorer(model, mode, dataset)

    def ids(self, users: Sequence[str], items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return RecBole's ids of users and of items, int64, each as long as what was given."""
        return self._ids(self.dataset.uid_field, users), self._ids(self.dataset.iid_field, items)

    def _ids(self, field: str, tokens: Sequence[str]) -> Tensor:
        import torch

        rows = self.dataset.token2id(field, np.asarray(tokens, dtype=object))
        return torch.as_tensor(np.asarray(rows), dtype=torch.long, device=self.model.device)

    def score(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Score replaced images; see `RewardModel.score`."""
        return self.what_if.score(*self.ids(users, items), self._tensor(embeddings))

    def probability(
        self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor
    ) -> Tensor:
        """Return how likely a like of replaced images is; see `RewardModel.probability`."""
        return self.score(users, items, embeddings).sigmoid()

    def rank(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Rank items with replaced images; see `RewardModel.rank`."""
        return self.what_if.rank(*self.ids(users, items), self._tensor(embeddings))

    def score_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Score items with their own images; see `RewardModel.score_original`."""
        return self.what_if.score_original(*self.ids(users, items))

    def rank_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Rank items with their own images; see `RewardModel.rank_original`."""
        return self.what_if.rank_original(*self.ids(users, items))

    def score_all(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Score every user's every item; see `RewardModel.score_all`."""
        import torch

        rows, columns = self.ids(users, items)
        blocks = rows.split(
            max(_SCORES // self.dataset.item_num, 1)
        )  # no user's scores of all items outlive their block
        return torch.cat([self.what_if.score_all(block)[:, columns] for block in blocks])

    def differentiable(self, users: Sequence[str], items: Sequence[str]) -> Callable[[Tensor], Tensor] | None:
        """Return the score as a function of the images; see `RewardModel.differentiable`."""
        return self.what_if.differentiable(*self.ids(users, items))

    def _tensor(self, embeddings: ArrayLike | Tensor) -> Tensor:
        import torch

        return torch.as_tensor(embeddings, dtype=torch.float32, device=self.model.device)


class LazyRanker:
    """A `RewardModel` that is loaded when it is first asked something: many generators never ask.

    Parameters
    ----------
    load
        Returns the `Ranker` to ask; called at most once.
    unseen
        Returns the table of `RewardModel.unseen`.
    """

    def __init__(self, load: Callable[[], Ranker], unseen: Callable[[], pd.DataFrame]) -> None:
        self._load, self.unseen = load, unseen

    @cached_property
    def loaded(self) -> Ranker:
        """The loaded ranker."""
        return self._load()

    def score(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Score replaced images; see `RewardModel.score`."""
        return self.loaded.score(users, items, embeddings)

    def probability(
        self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor
    ) -> Tensor:
        """Return how likely a like of replaced images is; see `RewardModel.probability`."""
        return self.loaded.probability(users, items, embeddings)

    def rank(self, users: Sequence[str], items: Sequence[str], embeddings: ArrayLike | Tensor) -> Tensor:
        """Rank items with replaced images; see `RewardModel.rank`."""
        return self.loaded.rank(users, items, embeddings)

    def score_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Score items with their own images; see `RewardModel.score_original`."""
        return self.loaded.score_original(users, items)

    def rank_original(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Rank items with their own images; see `RewardModel.rank_original`."""
        return self.loaded.rank_original(users, items)

    def score_all(self, users: Sequence[str], items: Sequence[str]) -> Tensor:
        """Score every user's every item; see `RewardModel.score_all`."""
        return self.loaded.score_all(users, items)

    def differentiable(self, users: Sequence[str], items: Sequence[str]) -> Callable[[Tensor], Tensor] | None:
        """Return the score as a function of the images; see `RewardModel.differentiable`."""
        return self.loaded.differentiable(users, items)
