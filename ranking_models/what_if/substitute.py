"""What-if scoring of any model that reads item features: put the image in, rebuild, and score everything again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from recbole.data.interaction import Interaction

from ranking_models.base import History
from ranking_models.what_if.base import WhatIf


class _Described:
    """A model with what `WhatIf` asks beside scores; the history is the dataset's where the model keeps none."""

    def __init__(self, model: Any, dataset: Any) -> None:
        self.n_users, self.n_items, self.device = model.n_users, model.n_items, model.device
        # a model without features can still be asked about the items as they are
        self.features: Any = getattr(model, "features", None)
        self.history = model.history if hasattr(model, "history") else History(dataset, model.device).of


class SubstituteWhatIf(WhatIf):
    """Exact for every model, and as slow as one rebuild and one full ranking a request.

    Parameters
    ----------
    model
        A trained RecBole model with ``features("image")``, which returns the table ``[n_items, D]`` that the model itself
        reads, not a copy: a request's image is written into it, and taken out again. A model that keeps something it
        computed from the table has a method ``features_changed()``, which forgets it or computes it again.
    dataset
        The RecBole dataset of the training interactions; needed where the model has no method ``history``.

    Notes
    -----
    Scores are what ``full_sort_predict`` returns. What a model read from the features when it was trained, such as the
    standardisation of VBPR, is part of its parameters and stays.
    """

    def __init__(self, model: Any, dataset: Any = None) -> None:
        super().__init__(_Described(model, dataset))
        self.scored = model.eval()

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._scores_with(users, items, embeddings).gather(1, items[:, None]).squeeze(1)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        scores = self._scores_with(users, items, embeddings)
        return self._count_above(scores, scores.gather(1, items[:, None]).squeeze(1), users, items)

    def _scores_with(
        self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        rows = [self._all_scores(users[:0])]
        for user, item, embedding in zip(users[:, None], items.tolist(), embeddings, strict=True):
            with self._substituted(item, embedding):
                rows.append(self._all_scores(user))
        return torch.cat(rows)

    @contextmanager
    def _substituted(self, item: int, embedding: torch.Tensor) -> Iterator[None]:
        table = self.scored.features("image")
        own = table[item].clone()
        try:
            table[item] = embedding
            self._tell()
            yield
        finally:
            table[item] = own
            self._tell()

    def _tell(self) -> None:
        if hasattr(self.scored, "features_changed"):
            self.scored.features_changed()

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        field = self.scored.USER_ID
        scores = self.scored.full_sort_predict(Interaction({field: users}))
        return scores.reshape(len(users), self.model.n_items).clone()
