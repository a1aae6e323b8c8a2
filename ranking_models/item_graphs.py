"""What LATTICE and MICRO share: item graphs by raw and by learned features, mixed, beside LightGCN on interactions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from recbole.model.init import xavier_uniform_initialization
from recbole.utils import InputType
from torch import nn
from torch.nn.functional import linear, normalize, softplus

from ranking_models.base import DotProductRecommender, Settings
from ranking_models.neighbours import (
    CELLS_PER_CHUNK,
    Neighbours,
    nearest_items,
    normalise,
    remembered_items,
    unit_rows,
)
from ranking_models.sparse import SparsePattern, edge_similarity, interaction_graph, light_gcn
from ranking_models.trainer import RankingTrainer
from ranking_models.what_if.graph import GraphWhatIf, ItemGraphState, ItemGraphWhatIf
from recgen.core.errors import UserError


class ItemGraphSettings(Settings):
    """Settings of a model with learned item graphs; the models' YAMLs explain each and give its source."""

    embedding_size: int = Field(gt=0)
    n_layers: int = Field(ge=0)
    item_layers: int = Field(ge=1)
    knn_k: int = Field(ge=1)
    graph_mix: float = Field(ge=0, le=1)
    reg_weight: float = Field(ge=0)
    ui_norm: Literal["row_self", "sym"]
    trainable_features: bool
    graph_rebuild_epochs: int = Field(ge=1)
    momentum_between_rebuilds: bool
    sampling: Literal["interactions", "users"]
    knn_exact_up_to: int = Field(ge=1)
    knn_probes: int = Field(ge=1)


@dataclass(frozen=True)
class ItemGraph:
    """One modality's A = (1 - lambda) norm(S) + lambda norm(S0): pattern ``[n_items, n_items]`` and values ``[nnz]``."""

    pattern: SparsePattern
    values: torch.Tensor

    def detached(self) -> ItemGraph:
        """The same graph as a constant."""
        return ItemGraph(self.pattern, self.values.detach())


class ItemGraphRecommender(DotProductRecommender):
    """A RecBole general recommender with sparse item graphs, one a modality; subclasses say how the modalities are fused.

    Per modality m, features F_m give a fixed item graph and, projected by W_m, a learned one; item embeddings are
    propagated over their mix, fused, and added to LightGCN's. Features act only through the graphs. The
    learned graph is rebuilt, with gradient, in the first batch of an epoch, is a constant in its other batches, and is fresh
    in evaluation. An epoch begins with `begin_epoch`, or without our trainer with every `train()`.
    """

    input_type = InputType.PAIRWISE
    trainer: ClassVar[type] = RankingTrainer
    settings: ItemGraphSettings
    _stale: bool
    _evaluated: tuple[torch.Tensor, torch.Tensor] | None
    _training_graphs: dict[str, ItemGraph]
    _interaction_pattern: SparsePattern | None

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.settings.embedding_size
        self.nominal_batch = config["train_batch_size"]
        self.user_embedding = nn.Embedding(self.n_users, width)
        self.item_embedding = nn.Embedding(self.n_items, width)
        xavier_uniform_initialization(self.user_embedding)
        xavier_uniform_initialization(self.item_embedding)
        dims = {m: self.features(m).shape[1] for m in self.modalities}
        self.transform = nn.ModuleDict({m: nn.Linear(dims[m], width) for m in self.modalities})
        for m in self.modalities:
            self._keep_fixed_graph(m)
        self.raw = nn.ParameterDict(
            {
                m: nn.Parameter(self.features(m).clone())
                for m in self.modalities
                if self.settings.trainable_features
            }
        )
        pattern, values = interaction_graph(dataset.inter_matrix(form="coo"), self.settings.ui_norm)
        self.register_buffer("interaction_starts", pattern.row_starts, persistent=False)
        self.register_buffer("interaction_columns", pattern.columns, persistent=False)
        self.register_buffer("interaction_values", values, persistent=False)
        self.epochs_begun, self._in_epoch = 0, False
        self._reset()

    # ---- graphs ----

    def _keep_fixed_graph(self, modality: str) -> None:
        s = self.settings
        near = remembered_items(unit_rows(self.features(modality)), s.knn_k, s.knn_exact_up_to, s.knn_probes)
        for field in ("ids", "similarity", "next_id", "next_similarity"):
            self.register_buffer(f"fixed_{field}_{modality}", getattr(near, field), persistent=False)

    def _nearest(self, unit: torch.Tensor) -> Neighbours:
        return nearest_items(
            unit, self.settings.knn_k, self.settings.knn_exact_up_to, self.settings.knn_probes
        )

    def fixed_neighbours(self, modality: str) -> Neighbours:
        """Neighbours by the raw features, computed once."""
        fields = ("ids", "similarity", "next_id", "next_similarity")
        return Neighbours(*(getattr(self, f"fixed_{field}_{modality}") for field in fields))

    def projected(self, modality: str, raw: torch.Tensor) -> torch.Tensor:
        """Return unit rows of W_m F_m + b_m, float32 ``[n, d]``, for raw features ``[n, D]``; see `projected_rows`."""
        return projected_rows(self.transform[modality], raw)

    def _raw(self, modality: str) -> torch.Tensor:
        return self.raw[modality] if self.settings.trainable_features else self.features(modality)

    def learned_neighbours(self, modality: str) -> Neighbours:
        """Neighbours by the projected features, for the present parameters."""
        return self._nearest(self.projected(modality, self._raw(modality).detach()))

    def _mixed(self, modality: str, learned: Neighbours, similarity: torch.Tensor) -> ItemGraph:
        fixed, mix = self.fixed_neighbours(modality), self.settings.graph_mix
        columns = torch.cat([fixed.ids, learned.ids], 1)
        dtype = self.item_embedding.weight.dtype
        original = mix * normalise(fixed.ids, fixed.similarity.to(dtype))
        values = torch.cat([original, (1 - mix) * normalise(learned.ids, similarity.to(dtype))], 1)
        starts = torch.arange(0, columns.numel() + 1, columns.shape[1], device=columns.device)
        return ItemGraph(SparsePattern(starts, columns.reshape(-1), self.n_items), values.reshape(-1))

    def item_graph(self, modality: str, learned: Neighbours) -> ItemGraph:
        """The modality's mixed graph as a constant."""
        return self._mixed(modality, learned, learned.similarity)

    def _item_graph_with_gradient(self, modality: str) -> ItemGraph:
        learned = self.learned_neighbours(modality)
        projected = self.transform[modality](self._raw(modality))
        unit = normalize(projected.to(self.item_embedding.weight.dtype))  # bfloat16 with enable_amp
        starts = torch.arange(0, learned.ids.numel() + 1, learned.ids.shape[1], device=unit.device)
        pattern = SparsePattern(starts, learned.ids.reshape(-1), self.n_items)
        similarity = edge_similarity(pattern, unit).view_as(learned.similarity)
        return self._mixed(modality, learned, similarity.where(learned.similarity != 0, 0))

    def train(self, mode: bool = True) -> ItemGraphRecommender:
        """Set the mode; entering training begins an epoch, which may be one that rebuilds the learned graph.

        Not between `begin_epoch` and `end_epoch`: with dynamic negatives RecBole switches there and back in every batch.
        """
        super().train(mode)
        if mode:
            self._evaluated = None
        if mode and not self._in_epoch:
            self._stale = self._stale or self.epochs_begun % self.settings.graph_rebuild_epochs == 0
            self.epochs_begun += 1
        return self

    def begin_epoch(self, epoch: int) -> None:
        """Enter training for the epoch of this number, counted from 0."""
        self.epochs_begun = epoch
        self.train()
        self._in_epoch = True

    def end_epoch(self) -> None:
        """Leave the epoch."""
        self._in_epoch = False

    def features_changed(self) -> None:
        """Build the fixed graphs anew, and forget what was computed from the old features."""
        for modality in self.modalities:
            self._keep_fixed_graph(modality)
        super().features_changed()

    def _reset(self) -> None:
        self._stale = True
        self._training_graphs = {}
        self._evaluated = None
        self._interaction_pattern = None

    def _graphs_for_batch(self) -> dict[str, ItemGraph]:
        if not self._stale:
            return self._training_graphs
        graphs = {m: self._item_graph_with_gradient(m) for m in self.modalities}
        self._training_graphs = {m: graph.detached() for m, graph in graphs.items()}
        self._stale = False
        return graphs

    # ---- forward ----

    def collaborative(self) -> tuple[torch.Tensor, torch.Tensor]:
        """LightGCN's users ``[n_users, d]`` and items ``[n_items, d]``: the mean of the layers on the user-item graph."""
        if self._interaction_pattern is None:
            n_nodes = self.n_users + self.n_items
            self._interaction_pattern = SparsePattern(
                self.interaction_starts, self.interaction_columns, n_nodes
            )
        users, items = self.user_embedding.weight, self.item_embedding.weight
        return light_gcn(
            self._interaction_pattern, self.interaction_values, users, items, self.settings.n_layers
        )

    def latent(self, graphs: dict[str, ItemGraph]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return what propagation over each modality's graph gives, h_m ``[n_items, d]``, and h ``[n_items, d]``, fused of it."""
        raise NotImplementedError

    def fusion(self) -> Callable[[list[torch.Tensor]], torch.Tensor]:
        """Return what fuses the modalities' ``[n, d]`` to one ``[n, d]``; training on does not change it."""
        raise NotImplementedError

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return final users ``[n_users, d]`` and items ``[n_items, d]`` ; a score is their dot product.

        Graphs are fresh but within an epoch, where dynamic negatives are scored with the graph that the epoch learns with.
        """
        users, items = self.collaborative()
        graphs = self._training_graphs
        if self._stale or not self._in_epoch:
            graphs = {m: self.item_graph(m, self.learned_neighbours(m)) for m in self.modalities}
        return users, items + normalize(self.latent(graphs)[1])

    # ---- loss ----

    def ranking_losses(self, interaction: Any, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch's BPR loss and weighted L2 term, both scalars, with h ``[n_items, d]`` of the batch's graphs."""
        users, items = self.collaborative()
        items = items + normalize(fused)
        user = users[interaction[self.USER_ID]]
        positive, negative = items[interaction[self.ITEM_ID]], items[interaction[self.NEG_ITEM_ID]]
        ranking = softplus((user * (negative - positive)).sum(1)).mean()
        squares = user.square().sum() + positive.square().sum() + negative.square().sum()
        return ranking, self.settings.reg_weight * 0.5 * squares / self.nominal_batch

    # ---- scoring ----

    def final(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `forward()`'s vectors of users ``[n_users, d]`` and items ``[n_items, d]`` without gradient.

        They are computed once between two changes of the parameters.

        Raises
        ------
        RuntimeError
            In training, where the learned graph is a step behind the parameters.
        """
        if self.training:
            raise RuntimeError(
                "call eval() first: in training the learned graph is a step behind the parameters"
            )
        if self._evaluated is None:
            with torch.no_grad():
                self._evaluated = self.forward()
        return self._evaluated

    def what_if(self, mode: str) -> ItemGraphWhatIf:
        """Return the scorer of replaced images; see `ranking_models.what_if.scorer`.

        Raises
        ------
        UserError
            With more than one item layer, or with trainable features.
        """
        self._check_what_if()
        return ItemGraphWhatIf(self.eval(), self._frozen(), mode)

    def _check_what_if(self) -> None:
        if self.settings.item_layers != 1:
            raise UserError(
                "key 'item_layers'",
                found=str(self.settings.item_layers),
                expected="1 for what-if scoring: over more layers one image reaches most of the catalogue",
            )
        if self.settings.trainable_features:
            raise UserError(
                "key 'trainable_features'",
                found="True",
                expected="False for what-if scoring: trained features are no longer in the space of new images",
            )

    @torch.no_grad()
    def _frozen(self) -> ItemGraphState:
        raw, mix = self.features("image"), self.settings.graph_mix
        learned = {m: self.learned_neighbours(m) for m in self.modalities}
        layer = copy.deepcopy(self.transform["image"])
        graphs = [
            (mix, GraphWhatIf(self.fixed_neighbours("image"), unit_rows(raw))),
            (1 - mix, GraphWhatIf(learned["image"], self.projected("image", raw))),
        ]
        users, items = self.collaborative()
        return ItemGraphState(
            users,
            items,
            self.latent({m: self.item_graph(m, learned[m]) for m in self.modalities})[0],
            self.modalities.index("image"),
            self.item_embedding.weight.detach().clone(),
            graphs,
            partial(projected_rows, layer),
            self.fusion(),
        )


@torch.no_grad()
def projected_rows(layer: nn.Module, raw: torch.Tensor) -> torch.Tensor:
    """Return unit rows of W F + b, float32 ``[n, d]``, for raw features F ``[n, D]`` and a linear layer (W, b).

    Rounded from float64, so that an image projected alone equals the same image projected among others.
    """
    weight, bias = (parameter.double() for parameter in layer.parameters())
    chunks = raw.split(max(CELLS_PER_CHUNK // raw.shape[1], 1))
    return unit_rows(torch.cat([linear(rows.double(), weight, bias).float() for rows in chunks]))
