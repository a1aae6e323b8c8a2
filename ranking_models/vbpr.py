"""VBPR: matrix factorisation that also looks at the items' images (He & McAuley, AAAI 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from recbole.utils import InputType
from torch import nn
from torch.nn.functional import softplus

from ranking_models.base import FeatureRecommender, Settings, defaults_path
from ranking_models.standard import Standardise
from ranking_models.trainer import RankingTrainer
from ranking_models.what_if.base import WhatIf


class VBPRSettings(Settings):
    """VBPR's settings; recbole_configs/VBPR.yaml explains each."""

    embedding_size: int = Field(ge=0)
    visual_size: int = Field(gt=0)
    standardise: bool
    reg_weight: float = Field(ge=0)
    visual_reg_weight: float = Field(ge=0)
    image_bias_reg_weight: float = Field(ge=0)


class VBPR(FeatureRecommender):
    """VBPR as a RecBole general recommender: the preference x(u, i) of equation 4, learned by pairwise ranking.

    x(u, i) = alpha + beta_u + beta_i + gamma_u . gamma_i + theta_u . (E f_i) + beta' . f_i, where alpha and beta_u, the same
    for all items of a user, are left out: they cancel in equation 7 and change no ranking.

    f_i is the frozen embedding of the item's image, standardised per dimension over the catalogue's distinct images
    if ``standardise`` is set.
    """

    input_type = InputType.PAIRWISE
    Settings = VBPRSettings
    defaults = defaults_path("VBPR")
    trainer: ClassVar[type] = RankingTrainer
    shows_redraws = True
    settings: VBPRSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        raw = self.features("image")
        self.standard = Standardise(raw[1:], self.settings.standardise)
        width, visual, dim = self.settings.embedding_size, self.settings.visual_size, raw.shape[1]
        self.item_bias = nn.Embedding(self.n_items, 1)
        self.user_embedding = nn.Embedding(self.n_users, width)
        self.item_embedding = nn.Embedding(self.n_items, width)
        self.user_visual = nn.Embedding(self.n_users, visual)
        self.map = nn.Parameter(torch.empty(visual, dim))
        self.picture_bias = nn.Parameter(torch.zeros(dim))
        nn.init.zeros_(self.item_bias.weight)
        for table in (self.user_embedding, self.item_embedding, self.user_visual):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.normal_(self.map, std=dim**-0.5)

    def image(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return theta_i = E f_i ``[B, d]`` (equation 3) and beta' . f_i ``[B]`` of raw embeddings f_i ``[B, D]``."""
        features = self.standard(embeddings)
        return features @ self.map.T, features @ self.picture_bias

    def preference(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return x(u, i) ``[B]`` (equation 4) of users and items ``[B]`` if the items had images ``[B, D]``."""
        visual, bias = self.image(embeddings)
        latent = (self.user_embedding(users) * self.item_embedding(items)).sum(1)
        return self.item_bias(items).squeeze(1) + latent + (self.user_visual(users) * visual).sum(1) + bias

    def catalogue(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return of every item with its own image theta_i ``[n_items, d]`` and beta_i + beta' . f_i ``[n_items]``."""
        visual, bias = self.image(self.features("image"))
        return visual, self.item_bias.weight.squeeze(1) + bias

    def all_preferences(
        self, users: torch.Tensor, catalogue: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Return x(u, i) ``[B, n_items]`` of users ``[B]`` for every item with its own image, from `catalogue`."""
        visual, shared = catalogue
        return (
            self.user_embedding(users) @ self.item_embedding.weight.T
            + self.user_visual(users) @ visual.T
            + shared
        )

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch's mean of -ln sigmoid(x(u, i) - x(u, j)) (equations 6 and 7) and the weighted L2 terms of equation 6."""
        users = interaction[self.USER_ID]
        positive, negative = interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        margin = self.preference(users, positive, self.shown_images(positive)) - self.preference(
            users, negative, self.shown_images(negative)
        )
        return softplus(-margin).mean(), self._regularisation(users, positive, negative)

    def _regularisation(self, users: torch.Tensor, *items: torch.Tensor) -> torch.Tensor:
        """L2 on what the batch touched, as in a step of the paper's stochastic gradient ascent, per pair."""
        rows = [self.user_embedding(users), self.user_visual(users)]
        rows += [table(item) for table in (self.item_embedding, self.item_bias) for item in items]
        factors = torch.stack([row.square().sum() for row in rows]).sum() / len(users)
        s = self.settings
        return 0.5 * (
            s.reg_weight * factors
            + s.visual_reg_weight * self.map.square().sum()
            + s.image_bias_reg_weight * self.picture_bias.square().sum()
        )

    def predict(self, interaction: Any) -> torch.Tensor:
        """Preferences ``[B]`` of the pairs in `interaction`."""
        items = interaction[self.ITEM_ID]
        return self.preference(interaction[self.USER_ID], items, self.features("image")[items])

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Preferences of the users in `interaction` for every item, flat ``[B * n_items]``."""
        return self.all_preferences(interaction[self.USER_ID], self.catalogue()).reshape(-1)

    def what_if(self, mode: str) -> VBPRWhatIf:
        """Return the scorer of replaced images, the same in both modes; see `ranking_models.what_if.scorer`."""
        return VBPRWhatIf(self)


class VBPRWhatIf(WhatIf):
    """VBPR's: an image changes nothing but its own item's preference, a product (equation 4); both modes are the same."""

    model: VBPR

    def __init__(self, model: VBPR) -> None:
        super().__init__(model.eval())
        with torch.no_grad():
            self.catalogue = model.catalogue()

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self.model.preference(users, items, embeddings)

    def differentiable(
        self, users: torch.Tensor, items: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the score as a function of the image; see `WhatIf.differentiable`."""
        users, items = self._check(users, items)
        return lambda embeddings: self.model.preference(users, items, embeddings)

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return self._count_above(self._all_scores(users), self._score(users, items, embeddings), users, items)

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.model.all_preferences(users, self.catalogue)
