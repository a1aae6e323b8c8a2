"""BM3: users, items and modalities predict one another's masked vectors (Zhou et al., WWW 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from recbole.model.init import xavier_normal_initialization, xavier_uniform_initialization
from recbole.utils import InputType
from torch import nn
from torch.nn.functional import cosine_similarity, dropout

from ranking_models.base import DotProductRecommender, Settings, defaults_path
from ranking_models.sparse import SparsePattern, interaction_graph, light_gcn
from ranking_models.trainer import RankingTrainer


class BM3Settings(Settings):
    """BM3's settings; recbole_configs/BM3.yaml explains each."""

    embedding_size: int = Field(gt=0)
    n_layers: int = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    modality_weight: float = Field(ge=0)
    reg_weight: float = Field(ge=0)


class BM3(DotProductRecommender):
    """BM3 as a RecBole general recommender.

    h_u and h_i are LightGCN's vectors of users and items, an item's with its embedding added; h_m = W_m F_m + b_m is a modality's
    (sections 3.1 and 3.2 of the paper). P is one linear predictor, T(h) is h with coordinates masked at random and no gradient,
    and C(a, b) = 1 - cos(P a, T b). The loss over a batch's interactions (section 3.3) is C(h_u, h_i) + C(h_i, h_u), which
    reconstructs the graph, plus for each modality C(h_m, h_i), which aligns it, and C(h_m, h_m), which restores what was masked.
    A score is P h_u . P h_i (section 3.4).

    Features act through the loss alone. Once BM3 is trained, no image is read for a score, and another image of an item changes
    none: it can be the downstream model and neither reward nor judge.
    """

    # it learns without negatives, but as a POINTWISE model RecBole would hand it labels; those drawn here go unread
    input_type = InputType.PAIRWISE
    Settings = BM3Settings
    defaults = defaults_path("BM3")
    trainer: ClassVar[type] = RankingTrainer
    scores_by_images = False
    settings: BM3Settings
    interaction_values: torch.Tensor
    interaction_starts: torch.Tensor
    interaction_columns: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.settings.embedding_size
        self.user_embedding = nn.Embedding(self.n_users, width)
        self.item_embedding = nn.Embedding(self.n_items, width)
        xavier_uniform_initialization(self.user_embedding)
        xavier_uniform_initialization(self.item_embedding)
        self.predictor = nn.Linear(width, width)
        self.transform = nn.ModuleDict(
            {m: nn.Linear(self.features(m).shape[1], width) for m in self.modalities}
        )
        self.predictor.apply(xavier_normal_initialization)
        self.transform.apply(xavier_normal_initialization)
        pattern, values = interaction_graph(dataset.inter_matrix(form="coo"), "sym")
        self.register_buffer("interaction_starts", pattern.row_starts, persistent=False)
        self.register_buffer("interaction_columns", pattern.columns, persistent=False)
        self.register_buffer("interaction_values", values, persistent=False)
        self._reset()

    def _reset(self) -> None:
        self._pattern: SparsePattern | None = None
        self._evaluated: tuple[torch.Tensor, torch.Tensor] | None = None

    def train(self, mode: bool = True) -> BM3:
        """Set the mode; entering training forgets what was scored before it."""
        self._evaluated = None
        return super().train(mode)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return h_u ``[n_users, d]`` and h_i ``[n_items, d]``: means over the layers, items with their embeddings added."""
        if self._pattern is None:
            n_nodes = self.n_users + self.n_items
            self._pattern = SparsePattern(self.interaction_starts, self.interaction_columns, n_nodes)
        embedded = self.item_embedding.weight
        users, items = light_gcn(
            self._pattern,
            self.interaction_values,
            self.user_embedding.weight,
            embedded,
            self.settings.n_layers,
        )
        return users, items + embedded

    # ---- loss ----

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a batch's losses of reconstruction, of modalities and of the vectors' norms, weighted; RecBole adds them."""
        every_user, every_item = self.forward()
        user, positive = interaction[self.USER_ID], interaction[self.ITEM_ID]
        users, items = every_user[user], every_item[positive]
        seen_users, seen_items = self._masked(users), self._masked(items)
        reconstruction = self._distance(users, seen_items) + self._distance(items, seen_users)
        of_modalities = []
        for modality in self.modalities:
            view = self.transform[modality](self.features(modality)[positive])
            of_modalities += [self._distance(view, seen_items), self._distance(view, self._masked(view))]
        norms = (every_user[1:].norm() + every_item[1:].norm()) / (self.n_items - 1)
        return (
            reconstruction,
            self.settings.modality_weight * torch.stack(of_modalities).sum(),
            self.settings.reg_weight * norms,
        )

    def _masked(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return T(h) ``[B, d]``: what a prediction aims at."""
        return dropout(vectors.detach(), self.settings.dropout)

    def _distance(self, vectors: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows ``[B, d]`` of 1 - cos(P h, target)."""
        return 1 - cosine_similarity(self.predictor(vectors), target, dim=1).mean()

    # ---- scoring ----

    def final(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return P h_u ``[n_users, d]`` and P h_i ``[n_items, d]`` without gradient.

        Outside training they are computed once between two changes of the parameters.
        """
        if self._evaluated is None or self.training:
            with torch.no_grad():
                users, items = self.forward()
                self._evaluated = self.predictor(users), self.predictor(items)
        return self._evaluated
