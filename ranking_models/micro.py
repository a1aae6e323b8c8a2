"""MICRO: latent item structures per modality, fused and contrasted, on top of LightGCN (Zhang et al., TKDE 2023)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ranking_models.base import defaults_path
from ranking_models.contrastive import contrastive_loss
from ranking_models.item_graphs import ItemGraph, ItemGraphRecommender, ItemGraphSettings
from ranking_models.sparse import propagate


class MicroSettings(ItemGraphSettings):
    """MICRO's settings; recbole_configs/MICRO.yaml explains each and gives its source."""

    contrastive_weight: float = Field(ge=0)
    temperature: float = Field(ge=0.02)  # e^(1/t) must fit in float32
    contrastive_items: int = Field(ge=2)


class MICRO(ItemGraphRecommender):
    """MICRO as a RecBole general recommender: an item's modalities are fused by attention, and contrasted with the result."""

    Settings = MicroSettings
    defaults = defaults_path("MICRO")
    settings: MicroSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.settings.embedding_size
        self.query = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))

    def latent(self, graphs: dict[str, ItemGraph]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return h_m = A_m^L E_i ``[n_items, d]`` of each modality, and h, fused of them (specification 4.4)."""
        views = []
        for graph in graphs.values():
            view = self.item_embedding.weight
            for _ in range(self.settings.item_layers):
                view = propagate(graph.pattern, graph.values, view)
            views.append(view)
        return views, attended(self.query, views)

    def fusion(self) -> Callable[[list[torch.Tensor]], torch.Tensor]:
        """Return the attention over modalities as it is now."""
        return partial(attended, copy.deepcopy(self.query))

    def calculate_loss(self, interaction: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the BPR, L2 and contrastive losses of a batch (specification 4.5), already weighted; RecBole adds them."""
        views, fused = self.latent(self._graphs_for_batch())
        contrastive = self.settings.contrastive_weight * self._contrast(views, fused)
        return *self.ranking_losses(interaction, fused), contrastive

    def _contrast(self, views: list[torch.Tensor], fused: torch.Tensor) -> torch.Tensor:
        population, sample = self.n_items - 1, self.settings.contrastive_items
        if population <= sample:
            chosen = torch.arange(1, self.n_items, device=fused.device)
        else:
            chosen = torch.randperm(population, device=fused.device)[:sample] + 1
        target = fused[chosen]
        losses = [
            contrastive_loss(view[chosen], target, self.settings.temperature, population) for view in views
        ]
        return torch.stack(losses).sum()


def attended(query: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
    """Return h = sum_m alpha_m h_m ``[n, d]`` with alpha the softmax over modalities of query(h_m)."""
    stacked = torch.stack(views)
    return (query(stacked).softmax(0) * stacked).sum(0)
