"""LATTICE: latent item structures per modality, mixed with weights that all items share (Zhang et al., ACM Multimedia 2021)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ranking_models.base import defaults_path
from ranking_models.item_graphs import ItemGraph, ItemGraphRecommender, ItemGraphSettings
from ranking_models.sparse import propagate


class LatticeSettings(ItemGraphSettings):
    """LATTICE's settings; recbole_configs/LATTICE.yaml explains each and gives its source."""


class LATTICE(ItemGraphRecommender):
    """LATTICE as a RecBole general recommender.

    Per modality m, S_m are the cosines of raw features, of which each row keeps the largest k, and S'_m those of W_m F_m + b_m;
    N(S) = D^-1/2 S D^-1/2. The graph is A = sum_m alpha_m (lambda N(S_m) + (1 - lambda) N(S'_m)) with alpha a softmax of one
    learned number a modality (section 3.1 of the paper), h = A^L E over the items' embeddings (section 3.2), and an item's final
    vector is LightGCN's plus h / |h| (section 3.3), learned by BPR (section 3.4). MICRO, its successor, has an alpha for each
    item and contrasts the modalities.
    """

    Settings = LatticeSettings
    defaults = defaults_path("LATTICE")
    settings: LatticeSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.modality_logits = nn.Parameter(torch.zeros(len(self.modalities)))

    def latent(self, graphs: dict[str, ItemGraph]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return A_m A^(L-1) E ``[n_items, d]`` of each modality, and h = A^L E, their weighted sum."""
        fused = self.item_embedding.weight
        for _ in range(self.settings.item_layers):
            views = [propagate(graph.pattern, graph.values, fused) for graph in graphs.values()]
            fused = weighted(self.modality_logits, views)
        return views, fused

    def fusion(self) -> Callable[[list[torch.Tensor]], torch.Tensor]:
        """Return the weighted sum over modalities with the weights as they are now."""
        return partial(weighted, self.modality_logits.detach().clone())

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the BPR and L2 losses of a batch, already weighted; RecBole adds them."""
        return self.ranking_losses(interaction, self.latent(self._graphs_for_batch())[1])


def weighted(logits: torch.Tensor, views: list[torch.Tensor]) -> torch.Tensor:
    """Return h = sum_m alpha_m h_m ``[n, d]`` with alpha the softmax of the logits ``[M]``."""
    return torch.einsum("m,mnd->nd", logits.softmax(0), torch.stack(views))
