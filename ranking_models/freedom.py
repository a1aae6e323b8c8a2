"""FREEDOM: a frozen item graph and a pruned interaction graph (Zhou & Shen, "A Tale of Two Graphs", ACM Multimedia 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import nn
from torch.nn.functional import softplus

from ranking_models.base import DotProductRecommender, Settings, defaults_path
from ranking_models.neighbours import inverse_root, normalise, remembered_items, unit_rows
from ranking_models.sparse import SparsePattern, light_gcn, propagate
from ranking_models.trainer import RankingTrainer
from ranking_models.what_if.substitute import SubstituteWhatIf


class FreedomSettings(Settings):
    """FREEDOM's settings; recbole_configs/FREEDOM.yaml explains each."""

    embedding_size: int = Field(gt=0)
    n_layers: int = Field(ge=0)
    item_layers: int = Field(ge=1)
    knn_k: int = Field(ge=1)
    image_weight: float = Field(ge=0, le=1)
    edge_dropout: float = Field(ge=0, lt=1)
    modality_weight: float = Field(ge=0)
    knn_exact_up_to: int = Field(ge=1)
    knn_probes: int = Field(ge=1)


class FREEDOM(DotProductRecommender):
    """FREEDOM as a RecBole general recommender.

    Item embeddings are propagated over a graph of each item's nearest items by raw features, all with equal weight, which is
    never learned; users and items as in LightGCN over interactions, of which every epoch keeps a sample that prefers edges
    between nodes of few edges. An item's final vector is the sum of both; scores are dot products.
    """

    input_type = InputType.PAIRWISE
    Settings = FreedomSettings
    defaults = defaults_path("FREEDOM")
    trainer: ClassVar[type] = RankingTrainer
    settings: FreedomSettings
    edge_users: torch.Tensor
    edge_items: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.settings.embedding_size
        self.user_embedding = nn.Embedding(self.n_users, width)
        self.item_embedding = nn.Embedding(self.n_items, width)
        xavier_uniform_initialization(self.user_embedding)
        xavier_uniform_initialization(self.item_embedding)
        self.transform = nn.ModuleDict(
            {m: nn.Linear(self.features(m).shape[1], width) for m in self.modalities}
        )
        edges = dataset.inter_matrix(form="csr").tocoo()  # a repeated interaction is one edge
        self.register_buffer("edge_users", torch.from_numpy(edges.row).long(), persistent=False)
        self.register_buffer("edge_items", torch.from_numpy(edges.col).long(), persistent=False)
        self._reset()

    def _reset(self) -> None:
        self._item_graph: tuple[SparsePattern, torch.Tensor] | None = None
        self._whole: tuple[SparsePattern, torch.Tensor] | None = None
        self._sampled: tuple[SparsePattern, torch.Tensor] | None = None
        self._evaluated: tuple[torch.Tensor, torch.Tensor] | None = None

    # ---- graphs ----

    def item_graph(self) -> tuple[SparsePattern, torch.Tensor]:
        """Return S = sum over modalities of alpha_m D^-1/2 S_m D^-1/2, frozen: its pattern and values ``[entries]``.

        alpha is `image_weight` for the image.
        """
        if self._item_graph is None:
            s = self.settings
            columns, values = [], []
            for modality, weight in self._weights().items():
                unit = unit_rows(self.features(modality))
                near = remembered_items(unit, s.knn_k, s.knn_exact_up_to, s.knn_probes)
                ones = (near.ids > 0).float()
                columns.append(near.ids)
                values.append(weight * normalise(near.ids, ones))
            ids = torch.cat(columns, 1)
            starts = torch.arange(0, ids.numel() + 1, ids.shape[1], device=ids.device)
            pattern = SparsePattern(starts, ids.reshape(-1), self.n_items)
            self._item_graph = pattern, torch.cat(values, 1).reshape(-1)
        return self._item_graph

    def _weights(self) -> dict[str, float]:
        if set(self.modalities) != {"image", "text"}:
            return {modality: 1 / len(self.modalities) for modality in self.modalities}
        return {"image": self.settings.image_weight, "text": 1 - self.settings.image_weight}

    def interaction_graph(self, kept: torch.Tensor | None = None) -> tuple[SparsePattern, torch.Tensor]:
        """Return LightGCN's D^-1/2 A D^-1/2 over users, then items: its pattern and values ``[2 E]``.

        It is of all E interactions, or of those at places `kept`, int64 ``[E]``.
        """
        users, items = self.edge_users, self.edge_items
        if kept is not None:
            users, items = users[kept], items[kept]
        n_nodes = self.n_users + self.n_items
        rows = torch.cat([users, items + self.n_users])
        columns = torch.cat([items + self.n_users, users])
        order = torch.argsort(rows * n_nodes + columns)
        rows, columns = rows[order], columns[order]
        degree = torch.bincount(rows, minlength=n_nodes)
        scale = inverse_root(degree.float())
        starts = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return SparsePattern(starts, columns, n_nodes), scale[rows] * scale[columns]

    def keep_probability(self) -> torch.Tensor:
        """Return how likely each interaction ``[E]`` is to be drawn first: 1 / sqrt(d_u d_i), normalised."""
        users, items = (torch.bincount(nodes)[nodes] for nodes in (self.edge_users, self.edge_items))
        weight = (users * items).float().rsqrt()
        return weight / weight.sum()

    def begin_epoch(self, epoch: int) -> None:
        """Draw the interactions that this epoch keeps."""
        kept = max(round(len(self.edge_users) * (1 - self.settings.edge_dropout)), 1)
        places = torch.multinomial(self.keep_probability(), kept) if self.settings.edge_dropout else None
        self._sampled = self.interaction_graph(places)

    def end_epoch(self) -> None:
        """Forget the epoch's sample and what was scored before it."""
        self._sampled = self._evaluated = None

    # ---- propagation ----

    def collaborative(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return users ``[n_users, d]`` and items ``[n_items, d]``: means over LightGCN's layers; in an epoch over its sample."""
        if self._whole is None:
            self._whole = self.interaction_graph()
        pattern, values = self._whole if self._sampled is None else self._sampled
        users, items = self.user_embedding.weight, self.item_embedding.weight
        return light_gcn(pattern, values, users, items, self.settings.n_layers)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return final users ``[n_users, d]`` and items ``[n_items, d]``; a score is their dot product."""
        pattern, values = self.item_graph()
        view = self.item_embedding.weight
        for _ in range(self.settings.item_layers):
            view = propagate(pattern, values.to(view.dtype), view)
        users, items = self.collaborative()
        return users, items + view

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch's BPR loss and the weighted sum of those of users against projected features."""
        users, items = self.forward()
        user = users[interaction[self.USER_ID]]
        positive, negative = interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        of_features = [
            _bpr(user, *(self.transform[m](self.features(m)[each]) for each in (positive, negative)))
            for m in self.modalities
        ]
        ranking = _bpr(user, items[positive], items[negative])
        return ranking, self.settings.modality_weight * torch.stack(of_features).sum()

    # ---- scoring ----

    def final(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `forward()`'s vectors of users ``[n_users, d]`` and items ``[n_items, d]`` without gradient.

        Outside training they are computed once between two changes of the parameters.
        """
        if self._evaluated is None or self.training:
            with torch.no_grad():
                self._evaluated = self.forward()
        return self._evaluated

    def what_if(self, mode: str) -> SubstituteWhatIf:
        """Return the exact scorer of replaced images, which rebuilds the item graph for each; the same in both modes."""
        return SubstituteWhatIf(self)


def _bpr(user: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the mean of -ln sigmoid(user . positive - user . negative)."""
    return softplus((user * (negative - positive)).sum(1)).mean()
