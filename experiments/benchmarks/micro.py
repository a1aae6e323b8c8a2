"""An epoch of MICRO against the reference's algorithm, same data and batch size, in one process.

The baseline is written here from the specification: dense N x N similarity graphs rebuilt in the first batch of an epoch,
the contrastive loss over all items in row chunks with autograd, torch's COO products. Both sides run `--batches` batches
after the epoch's first one, which is timed apart; an epoch is first + (batches per epoch - 1) x the others' mean. The dense
baseline's cost grows with N^2; at sizes above `--dense` items it is timed at that size and scaled by N^2, and the result says so.

usage: python experiments/benchmarks/micro.py [--items 1682 20000] [--batches 3] [--dense 5000]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from data import Clock, built, environment, write_result
from torch.nn.functional import logsigmoid, normalize

CHUNK = 4096


def dense_graph(features: torch.Tensor, k: int) -> torch.Tensor:
    """norm(S) as a dense matrix with gradient."""
    unit = features / features.norm(dim=1, keepdim=True)
    similarity = unit @ unit.T
    values, columns = similarity.topk(k)
    kept = torch.zeros_like(similarity).scatter(1, columns, values)
    scale = kept.sum(1).rsqrt()
    return scale[:, None] * kept * scale[None]


def contrast(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    a, b = normalize(a), normalize(b)
    losses = []
    for rows in torch.arange(len(a)).split(CHUNK):
        within, between = torch.exp(a[rows] @ a.T / temperature), torch.exp(a[rows] @ b.T / temperature)
        own = torch.arange(len(rows))
        positive = between[own, rows]
        losses.append(-torch.log(positive / (within.sum(1) + between.sum(1) - within[own, rows])))
    return torch.cat(losses).mean()


class Reference(torch.nn.Module):
    """The reference's way of computing the same model; parameters are copied from ours."""

    def __init__(self, model) -> None:
        super().__init__()
        self.settings, self.names = model.settings, model.modalities
        self.users = torch.nn.Parameter(model.user_embedding.weight.detach().clone())
        self.items = torch.nn.Parameter(model.item_embedding.weight[1:].detach().clone())
        self.raw = {m: model.features(m)[1:] for m in self.names}
        self.transform, self.query = model.transform, model.query
        model.collaborative()
        pattern = model._interaction_pattern
        size = (pattern.n_rows, pattern.n_columns)
        indices = torch.stack([pattern.rows, pattern.columns])
        self.graph = torch.sparse_coo_tensor(indices, model.interaction_values, size).coalesce()
        with torch.no_grad():
            self.fixed = {m: dense_graph(self.raw[m], self.settings.knn_k) for m in self.names}
        self.mixed: dict[str, torch.Tensor] = {}

    def loss(
        self, user: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, rebuild: bool
    ) -> torch.Tensor:
        mix = self.settings.graph_mix
        if rebuild:
            learned = {
                m: dense_graph(self.transform[m](self.raw[m]), self.settings.knn_k) for m in self.names
            }
            self.mixed = {m: (1 - mix) * learned[m] + mix * self.fixed[m] for m in self.names}
        else:
            self.mixed = {m: graph.detach() for m, graph in self.mixed.items()}
        views = [self.mixed[m] @ self.items for m in self.names]
        alpha = torch.softmax(torch.cat([self.query(view) for view in views], 1), 1)
        fused = sum(alpha[:, [m]] * view for m, view in enumerate(views))
        padded = torch.cat([self.users, torch.zeros_like(self.items[:1]), self.items])
        layers = [padded]
        for _ in range(self.settings.n_layers):
            layers.append(torch.sparse.mm(self.graph, layers[-1]))
        mean = torch.stack(layers).mean(0)
        users, items = mean[: len(self.users)], mean[len(self.users) + 1 :] + normalize(fused)
        u, p, n = users[user], items[positive - 1], items[negative - 1]
        squares = (u.square().sum() + p.square().sum() + n.square().sum()) / 2 / len(u)
        ranking = -logsigmoid((u * p).sum(1) - (u * n).sum(1)).mean()
        contrastive = sum(contrast(view, fused, self.settings.temperature) for view in views)
        return ranking + self.settings.reg_weight * squares + self.settings.contrastive_weight * contrastive


def epoch_seconds(first: Clock, others: Clock, timed: int, batches: int) -> dict[str, float]:
    a, b = first.per(1), others.per(timed)
    return {name: a[name] + (batches - 1) * b[name] for name in a}


def ours(trainer, model, loader, timed: int) -> tuple[Clock, Clock]:
    model.train()
    batches = iter(loader)

    def step() -> None:
        batch = next(batches)
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()

    with Clock() as first:
        step()
    with Clock() as others:
        for _ in range(timed):
            step()
    return first, others


def reference(model, loader, timed: int) -> tuple[Clock, Clock]:
    baseline = Reference(model)
    optimizer = torch.optim.Adam(baseline.parameters(), lr=5e-4)
    batches = iter(loader)

    def step(rebuild: bool) -> None:
        batch = next(batches)
        optimizer.zero_grad()
        baseline.loss(batch["user_id"], batch["item_id"], batch["neg_item_id"], rebuild).backward()
        optimizer.step()

    with Clock() as first:
        step(rebuild=True)
    with Clock() as others:
        for _ in range(timed):
            step(rebuild=False)
    return first, others


def measure(items: int, timed: int, dense_up_to: int, contrasted: int, per_batch: int = 1024) -> dict:
    """Time both at a number of items, ours with so many of them contrasted; the reference contrasts all."""
    from ranking_models.trainer import RankingTrainer

    size = {"users": max(items // 2, 900), "per_user": 60, "dim": 512}
    with tempfile.TemporaryDirectory() as folder:
        config, model, loader, _ = built(
            Path(folder), items=items, train_batch_size=per_batch, contrastive_items=contrasted, **size
        )
        batches = len(loader)
        mine = epoch_seconds(*ours(RankingTrainer(config, model), model, loader, timed), timed, batches)
        if items <= dense_up_to:
            theirs = epoch_seconds(*reference(model, loader, timed), timed, batches)
    scaled = items > dense_up_to
    if scaled:
        with tempfile.TemporaryDirectory() as folder:
            _, small, loader, _ = built(Path(folder), items=dense_up_to, train_batch_size=per_batch, **size)
            theirs = epoch_seconds(*reference(small, loader, timed), timed, batches)
        theirs = {name: seconds * (items / dense_up_to) ** 2 for name, seconds in theirs.items()}
    return {
        "items": items,
        "objective": "same" if contrasted >= items else f"{contrasted} items contrasted by ours",
        "interactions": len(loader.dataset) if not scaled else None,
        "batches per epoch": batches,
        "seconds per epoch": {"ours": mine, "reference's algorithm": theirs},
        "baseline": f"timed at {dense_up_to} items, scaled by N^2" if scaled else "timed at this size",
        "times faster": {name: theirs[name] / mine[name] for name in mine},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1682, 20_000])
    parser.add_argument("--contrasted", type=int, nargs="+", default=[10**9, 4096])
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--dense", type=int, default=5_000)
    options = parser.parse_args()
    runs = [
        measure(items, options.batches, options.dense, contrasted)
        for items in options.items
        for contrasted in options.contrasted
        if contrasted in (max(options.contrasted), *range(items))  # fewer than there are, or all of them
    ]
    write_result(Path(__file__), {"runs": runs, **environment()})


if __name__ == "__main__":
    main()
