"""MICRO worked out from its specification with dense float64 matrices; shares no code with the model."""

from __future__ import annotations

import torch


def dense_graph(features: torch.Tensor, k: int) -> torch.Tensor:
    """norm(S) ``[N, N]`` over real items (no padding): k largest cosines per row, itself included, s / sqrt(d_i d_j)."""
    length = torch.sqrt((features * features).sum(1))
    cosine = (features @ features.T) / torch.outer(length, length)
    kept = torch.zeros_like(cosine)
    values, columns = torch.topk(cosine, min(k, len(cosine)), dim=1)
    kept = kept.scatter(1, columns, values)
    degree = kept.sum(1)
    return kept / torch.sqrt(torch.outer(degree, degree))


def dense_interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int, norm: str) -> torch.Tensor:
    size = n_users + n_items
    adjacency = torch.zeros(size, size, dtype=torch.float64)
    for user, item in pairs:
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1
    if norm == "row_self":
        adjacency = adjacency + torch.eye(size, dtype=torch.float64)
        return adjacency / adjacency.sum(1, keepdim=True)
    degree = adjacency.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-30) ** -0.5, torch.zeros_like(degree))
    return scale[:, None] * adjacency * scale[None]


def contrast(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    between, within = torch.exp(a @ b.T / t), torch.exp(a @ a.T / t)
    return -torch.log(between.diag() / (within.sum(1) + between.sum(1) - within.diag())).mean()


class DenseMicro:
    """Parameters copied from a model to float64 leaves; rows of padding are dropped from everything but E_u."""

    def __init__(self, model, pairs: list[tuple[int, int]]) -> None:
        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().double().clone().requires_grad_()

        self.settings, self.names = model.settings, model.modalities
        self.users, self.items = leaf(model.user_embedding.weight), leaf(model.item_embedding.weight[1:])
        self.features = {m: model.features(m)[1:].double() for m in self.names}
        self.weight = {m: leaf(model.transform[m].weight) for m in self.names}
        self.bias = {m: leaf(model.transform[m].bias) for m in self.names}
        self.q1, self.q1_bias = leaf(model.query[0].weight), leaf(model.query[0].bias)
        self.q2 = leaf(model.query[2].weight)
        self.graph = dense_interactions(
            [(user, item - 1) for user, item in pairs],
            len(self.users),
            len(self.items),
            self.settings.ui_norm,
        )
        self.batch_size = model.nominal_batch

    def forward(self, learned_constant: bool = False):
        k, mix = self.settings.knn_k, self.settings.graph_mix
        views = []
        for m in self.names:
            learned = dense_graph(self.features[m] @ self.weight[m].T + self.bias[m], k)
            learned = learned.detach() if learned_constant else learned
            view, graph = self.items, (1 - mix) * learned + mix * dense_graph(self.features[m], k)
            for _ in range(self.settings.item_layers):
                view = graph @ view
            views.append(view)
        scores = [torch.tanh(v @ self.q1.T + self.q1_bias) @ self.q2.T for v in views]
        total = sum(torch.exp(s) for s in scores)
        fused = sum(torch.exp(s) / total * v for s, v in zip(scores, views, strict=True))
        layers = [torch.cat([self.users, self.items])]
        for _ in range(self.settings.n_layers):
            layers.append(self.graph @ layers[-1])
        mean = sum(layers) / len(layers)
        users, items = mean[: len(self.users)], mean[len(self.users) :]
        return users, items + fused / fused.norm(dim=1, keepdim=True), views, fused

    def loss(self, user, positive, negative, learned_constant: bool = False) -> torch.Tensor:
        users, items, views, fused = self.forward(learned_constant)
        u, p, n = users[user], items[positive - 1], items[negative - 1]
        ranking = -torch.log(torch.sigmoid((u * p).sum(1) - (u * n).sum(1))).mean()
        squares = ((u**2).sum() + (p**2).sum() + (n**2).sum()) / 2
        contrastive = sum(contrast(v, fused, self.settings.temperature) for v in views)
        return (
            ranking
            + self.settings.reg_weight * squares / self.batch_size
            + self.settings.contrastive_weight * contrastive
        )
