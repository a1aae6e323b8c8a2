"""The verifier: does this user like this image? (REBECA, section 4.4.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from recbole.utils import InputType
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from ranking_models.base import FeatureRecommender, Settings, defaults_path
from ranking_models.standard import Standardise
from ranking_models.trainer import RankingTrainer
from ranking_models.what_if.base import WhatIf
from recgen.core.errors import UserError


class VerifierSettings(Settings):
    """The verifier's settings; recbole_configs/Verifier.yaml explains each."""

    embedding_size: int = Field(gt=0)
    hidden_size: int = Field(ge=0)
    standardise: bool
    bias: bool
    user_reg: float = Field(ge=0)
    map_reg: float = Field(ge=0)


class Verifier(FeatureRecommender):
    """P(R = 1 | u, I) = sigmoid(phi(u) . W e(I)), with phi free per user and e a frozen image embedding.

    With ``bias``, phi(u) and e(I) each carry a constant component. This stays within the paper's form: the row of W that
    meets phi's constant is an intercept per image (what everybody likes), the column that meets e's is one per user (how
    generous the user is), and phi is then how a user differs, which is what the L2 term draws to zero.

    ``hidden_size`` > 0 leaves the paper's form: e(I) is followed by that many learned rectified features of it before W, for
    embeddings in which what people like is not linear.

    Trained by cross-entropy on the label field (RecBole's ``threshold``), or on sampled negatives if
    ``train_neg_sample_args`` is set.
    """

    input_type = InputType.POINTWISE
    Settings = VerifierSettings
    defaults = defaults_path("Verifier")
    trainer: ClassVar[type] = RankingTrainer
    shows_redraws = True
    settings: VerifierSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.label_field = config["LABEL_FIELD"]
        if (
            config["train_neg_sample_args"]["distribution"] == "none"
            and self.label_field not in dataset.inter_feat
        ):
            raise UserError(
                f"the data set {config['dataset']!r}",
                found="no likes and dislikes to learn from",
                expected="a label, or sampled negatives",
                todo="Set threshold: {rating: 4} and load the rating, or set train_neg_sample_args: {distribution: uniform}.",
            )
        raw = self.features("image")
        self.standard = Standardise(raw[1:], self.settings.standardise)
        width, dim, hidden = self.settings.embedding_size, raw.shape[1], self.settings.hidden_size
        constant = int(self.settings.bias)
        self.user_embedding = nn.Embedding(self.n_users, width)
        self.hidden = nn.Linear(dim, hidden) if hidden else None
        self.map = nn.Parameter(torch.empty(width + constant, dim + hidden + constant))
        nn.init.normal_(self.user_embedding.weight, std=0.1)
        nn.init.normal_(self.map, std=0.5 / (dim + hidden) ** 0.5)
        self.n_train = max(len(dataset.inter_feat), 1)

    def image(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return W e(I) ``[B, d]`` of raw image embeddings ``[B, D]``."""
        features = self.standard(embeddings)
        if self.hidden is not None:
            features = torch.cat([features, relu(self.hidden(features))], 1)
        return self._with_constant(features) @ self.map.T

    def user(self, users: torch.Tensor) -> torch.Tensor:
        """Return phi(u) ``[B, d]``."""
        return self._with_constant(self.user_embedding(users))

    def _with_constant(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, torch.ones_like(rows[:, :1])], 1) if self.settings.bias else rows

    def logits(self, users: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return phi(u) . W e(I) ``[B]`` for users ``[B]`` and raw image embeddings ``[B, D]``."""
        return (self.user(users) * self.image(embeddings)).sum(1)

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch's mean cross-entropy and the L2 terms; RecBole adds them."""
        logits = self.logits(interaction[self.USER_ID], self.shown_images(interaction[self.ITEM_ID]))
        error = binary_cross_entropy_with_logits(logits, interaction[self.label_field].float())
        users, maps = self.user_embedding.weight.square().sum(), self.map.square().sum()
        if self.hidden is not None:
            maps = maps + self.hidden.weight.square().sum()
        return error, (self.settings.user_reg * users + self.settings.map_reg * maps) / (2 * self.n_train)

    def predict(self, interaction: Any) -> torch.Tensor:
        """P(R = 1 | u, I) ``[B]`` of the pairs in `interaction`."""
        return self.logits(
            interaction[self.USER_ID], self.features("image")[interaction[self.ITEM_ID]]
        ).sigmoid()

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """P(R = 1 | u, I) of the users in `interaction` for every item's own image, flat ``[B * n_items]``."""
        return (
            (self.user(interaction[self.USER_ID]) @ self.image(self.features("image")).T)
            .sigmoid()
            .reshape(-1)
        )

    def what_if(self, mode: str) -> VerifierWhatIf:
        """Return the scorer of replaced images, the same in both modes; see `ranking_models.what_if.scorer`."""
        return VerifierWhatIf(self)


class VerifierWhatIf(WhatIf):
    """The verifier's: an image changes nothing but its own score, a product; both modes are the same.

    Scores are logits: probabilities near 0 and 1 would tie in a rank, and would hardly move as a reward.
    """

    model: Verifier

    def __init__(self, model: Verifier) -> None:
        super().__init__(model.eval())
        with torch.no_grad():
            self.images = model.image(model.features("image"))

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self.model.logits(users, embeddings)

    def differentiable(
        self, users: torch.Tensor, items: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the score as a function of the image; see `WhatIf.differentiable`."""
        users, items = self._check(users, items)
        return lambda embeddings: self.model.logits(users, embeddings)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._count_above(self._all_scores(users), self.model.logits(users, embeddings), users, items)

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.model.user(users) @ self.images.T
