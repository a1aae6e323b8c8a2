"""Learning from a log: a training set with more interactions in it, and a trained model as who shows pages asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ranking_models.what_if.substitute import SubstituteWhatIf
from recgen.recommender.baselines import expected_metrics
from recgen.recommender.recbole import DatasetSplits


def add_interactions(
    parts: DatasetSplits, users: Sequence[str], items: Sequence[str], likes: np.ndarray, label: str | None
) -> DatasetSplits:
    """Return split data whose training part has more interactions.

    Parameters
    ----------
    parts
        The split data; they stay as they are.
    users, items
        Tokens of n interactions.
    likes
        bool ``[n]``. Where the data have no label, only those that are liked are added.
    label
        The field of likes (1) and dislikes (0); None where all interactions are likes.

    Notes
    -----
    What else the data have in a column of numbers (a rating, a time) is the highest of the training part: liked, and the latest.
    """
    from recbole.data.interaction import Interaction, cat_interactions

    kept = np.ones(len(users), dtype=bool) if label is not None else np.asarray(likes, dtype=bool)
    if not kept.any():
        return parts
    known, n = parts.train.inter_feat, int(kept.sum())
    columns = {name: _filled(known[name], n) for name in known.columns}
    for field, tokens in ((parts.whole.uid_field, users), (parts.whole.iid_field, items)):
        chosen = np.asarray(tokens, dtype=object)[kept]
        columns[field] = torch.as_tensor(np.asarray(parts.whole.token2id(field, chosen)), dtype=torch.long)
    if label is not None:
        columns[label] = torch.as_tensor(np.asarray(likes, dtype=bool)[kept], dtype=known[label].dtype)
    return replace(parts, train=parts.train.copy(cat_interactions([known, Interaction(columns)])))


def _filled(column: torch.Tensor, n: int) -> torch.Tensor:
    value = column.max()[None] if column.is_floating_point() and column.dim() == 1 else column[:1]
    return value.repeat(n, *[1] * (column.dim() - 1))


class RankedCatalogue:
    """A trained RecBole model's scores of some users for the whole catalogue.

    Parameters
    ----------
    model, dataset
        The model, and the RecBole dataset that it was trained on.
    users, items
        Tokens of those who are asked about, and of the catalogue.
    """

    def __init__(self, model: Any, dataset: Any, users: Sequence[str], items: Sequence[str]) -> None:
        rows, columns = (
            torch.as_tensor(np.asarray(dataset.token2id(field, np.asarray(tokens, dtype=object)))).long()
            for field, tokens in ((dataset.uid_field, users), (dataset.iid_field, items))
        )
        with torch.no_grad():
            scores = SubstituteWhatIf(model, dataset).score_all(rows.to(model.device))
        self.scores = scores.cpu()[:, columns].numpy().astype(np.float64)
        self.users = {user: row for row, user in enumerate(users)}
        self.items = {item: column for column, item in enumerate(items)}

    def rank(self, users: Sequence[str], candidates: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return each user's candidates, the best first; equal scores stay in the candidates' order."""
        found = {}
        for user in users:
            items = list(candidates[user])
            order = np.argsort(-self.scores[self.users[user]][self._columns(items)], kind="stable")
            found[user] = [items[place] for place in order]
        return found

    def quality(
        self, relevant: Mapping[str, Sequence[str]], left_out: Mapping[str, Sequence[str]], k: int
    ) -> pd.DataFrame:
        """Return Recall@k and NDCG@k of each user's relevant items among the catalogue.

        Parameters
        ----------
        relevant
            By user, the items that should be found, at least one.
        left_out
            By user, items that do not take part, such as those of the training.
        k
            The cutoff.

        Returns
        -------
        Columns user_id, recall@k and ndcg@k.
        """
        rows = []
        for user, wanted in relevant.items():
            out = set(left_out.get(user, ())) - set(wanted)
            candidates = [item for item in self.items if item not in out]
            values = self.scores[self.users[user]][self._columns(candidates)]
            hit = np.isin(np.array(candidates, dtype=object), np.array(list(wanted), dtype=object))
            rows.append((user, *expected_metrics(values, hit, k)))
        return pd.DataFrame(rows, columns=["user_id", f"recall@{k}", f"ndcg@{k}"])

    def _columns(self, items: Sequence[str]) -> np.ndarray:
        return np.array([self.items[item] for item in items], dtype=np.int64)
