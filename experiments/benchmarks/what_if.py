"""What-if scoring against the slow way: put the image in, rebuild the graphs, run the forward pass, rank.

Both are timed in this process on the same untrained MICRO over random clustered features, in wall and CPU seconds, and
compared. The slow way here already has the sparse graphs and FAISS; the reference's dense matrices would be slower still.

usage: python experiments/benchmarks/what_if.py [--items 10000] [--requests 200] [--slow 4]
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch
from data import Clock, built, environment, write_result

from ranking_models.what_if import scorer


def slow_rank(model, user: int, item: int, image: torch.Tensor) -> tuple[float, int, int]:
    """Return the score and the lowest and highest rank that ties within 1e-5 allow."""
    changed = copy.copy(model)  # parameters are shared, buffers are its own
    changed._buffers = dict(model._buffers)
    changed._buffers["features_image"] = model.features("image").clone()
    changed.features("image")[item] = image
    changed._keep_fixed_graph("image")
    changed._evaluated = None
    users, items = changed.final()
    scores = items @ users[user]
    target = scores[item].item()
    scores[model.history(torch.tensor([user]))[1]] = -torch.inf
    scores[0] = scores[item] = -torch.inf
    return target, int((scores > target + 1e-5).sum()), int((scores > target - 1e-5).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--slow", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = built(Path(folder), users=2_000, items=options.items, per_user=20, dim=options.dim)[1].eval()
    generator = torch.Generator().manual_seed(1)
    n = options.requests
    users = torch.randint(1, model.n_users, (n,), generator=generator)
    items = torch.randint(1, model.n_items, (n,), generator=generator)
    images = model.features("image")[torch.randint(1, model.n_items, (n,), generator=generator)]
    images = images + 0.3 * torch.randn(images.shape, generator=generator)
    with Clock() as making:
        what_if = scorer(model)
    with Clock() as ranking:
        ranks = what_if.rank(users, items, images)
    scores = what_if.score(users, items, images)
    own = scorer(model, "own_row")
    with Clock() as own_ranking:
        own_ranks = own.rank(users, items, images)
    with Clock() as slow:
        expected = [slow_rank(model, int(users[i]), int(items[i]), images[i]) for i in range(options.slow)]
    for i, (score, low, high) in enumerate(expected):
        assert abs(scores[i].item() - score) < 1e-4 and low <= ranks[i].item() <= high, f"request {i} differs"
    per = {name: clock.per(n) for name, clock in (("exact", ranking), ("own_row", own_ranking))}
    per["slow"] = slow.per(options.slow)
    write_result(
        Path(__file__),
        {
            "items": options.items,
            "dim": options.dim,
            "seconds per request": per,
            "seconds to make a scorer": making.per(1),
            "times faster (CPU)": {
                name: per["slow"]["cpu"] / per[name]["cpu"] for name in ("exact", "own_row")
            },
            "times faster (wall)": {
                name: per["slow"]["wall"] / per[name]["wall"] for name in ("exact", "own_row")
            },
            "slow requests compared, all equal": options.slow,
            "mean |rank(exact) - rank(original)|": (ranks - what_if.rank_original(users, items))
            .abs()
            .float()
            .mean()
            .item(),
            "mean |rank(exact) - rank(own_row)|": (ranks - own_ranks).abs().float().mean().item(),
            **environment(),
        },
    )


if __name__ == "__main__":
    main()
