"""Groups of users for methods that learn one style per group: clusters of what users liked, or every user on their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from generators.base import Generator, Progress
from generators.common.denoising import image_latents
from generators.common.gradients import Gradients
from generators.common.settings import WATCHED
from generators.common.training import Curves, batches, likes_by_user
from recgen.core.errors import UserError
from recgen.core.seeding import seed_for
from recgen.data.requests import HISTORY
from recgen.data.types import Request, RunData
from recgen.features.k_means import k_means

_CURVES = 12  # groups with a curve in the report


@dataclass(frozen=True, eq=False)
class Groups:
    """Who belongs together.

    Attributes
    ----------
    means
        float32 ``[k, D]``, the centres of the clusters among users' mean liked embeddings; none where groups are single users.
    users
        Where each group is one user: their tokens, in the groups' order.
    """

    means: np.ndarray
    users: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.users) or len(self.means)

    @cached_property
    def _by_user(self) -> dict[str, int]:
        return {user: group for group, user in enumerate(self.users)}

    def of(self, request: Request, data: RunData) -> int | None:
        """Return the group of a request's user, of clusters the nearest to the request's history; None where nothing is known."""
        if self.users:
            return self._by_user.get(request.user_id)
        mean = _mean(data, [data.item_rows[token] for token in request.history])
        if mean is None or not len(self.means):
            return None
        return int(np.square(self.means - mean).sum(1).argmin())

    def save(self, folder: Path) -> None:
        """Write groups.safetensors and groups.json."""
        save_file(
            {"means": np.ascontiguousarray(self.means, dtype=np.float32)}, folder / "groups.safetensors"
        )
        (folder / "groups.json").write_text(
            json.dumps({"users": self.users}, indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path, method: str) -> Groups:
        """Read what `save` wrote, or raise `UserError` if `folder` holds no `method`."""
        if not (folder / "groups.safetensors").exists():
            raise UserError(
                str(folder), found="no groups.safetensors", expected=f"a folder that {method} saved"
            )
        users = json.loads((folder / "groups.json").read_text(encoding="utf-8"))["users"]
        return cls(load_file(folder / "groups.safetensors")["means"], tuple(users))


def find_groups(data: RunData, clusters: int | None) -> tuple[Groups, list[list[int]]]:
    """Group the users who liked an image, by their latest `HISTORY` likes.

    Parameters
    ----------
    data
        Whose users.
    clusters
        Number of clusters, at most one per user; None makes every user a group.

    Returns
    -------
    tuple
        The groups, and what each group's users liked: catalogue rows of items with images, as often as they were liked.
    """
    liked = {
        user: [i for i in items[-HISTORY:] if data.images[i] is not None]
        for user, items in likes_by_user(data).items()
    }
    liked = {user: items for user, items in liked.items() if items}
    if clusters is None or not liked:
        return Groups(np.empty((0, 0), np.float32), tuple(data.user_ids[user] for user in liked)), list(
            liked.values()
        )
    points = np.stack([mean for items in liked.values() if (mean := _mean(data, items)) is not None])
    means, members = k_means(points, clusters, seed_for(data.run_seed, "groups of users"))
    images: list[list[int]] = [[] for _ in means]
    for group, items in zip(members.tolist(), liked.values(), strict=True):
        images[group] += items
    return Groups(means), images


def _mean(data: RunData, rows: Sequence[int]) -> np.ndarray | None:
    """Return the mean embedding ``[D]`` of the rows' images, or None where there is none."""
    seen = [row for row in rows if data.images[row] is not None]
    return data.image_features[seen].mean(0, dtype=np.float64).astype(np.float32) if seen else None


@dataclass(frozen=True, eq=False)
class Row:
    """One image of a step.

    Attributes
    ----------
    place
        Its place in the step's batch, from which its noise follows.
    item
        Its catalogue row.
    """

    place: int
    item: int


class ClusterTrainer:
    """Trains one set of parameters for each group of users, on the images its users liked.

    Parameters
    ----------
    generator
        Its backbone encodes the images; its settings hold the batch size and the number of steps.
    data
        The catalogue.
    liked
        Each group's catalogue rows.
    """

    def __init__(self, generator: Generator, data: RunData, liked: Sequence[Sequence[int]]) -> None:
        self.generator, self.data, self.liked = generator, data, liked
        self.latents = image_latents(generator.backbone, data, (row for rows in liked for row in rows))
        self.curves: Curves = {}

    def batches(self, group: int) -> Iterator[list[Row]]:
        """Yield batches of a group for ever."""
        size, stage = self.generator.config.images_per_step, f"{self.generator.name} batches {group}"
        for items in batches(self.liked[group], size, stage, self.data.run_seed):
            yield [Row(place, item) for place, item in enumerate(items)]

    def clean(self, rows: Sequence[Row]) -> Tensor:
        """Return the latents of rows, ``[B, channels, h, w]``."""
        return torch.cat([self.latents[row.item] for row in rows]).to(self.generator.backbone.device)

    def train(
        self,
        group: int,
        trained: Mapping[str, Tensor],
        learning_rate: float,
        losses: Callable[[int, Sequence[Row]], Tensor],
        progress: Progress,
    ) -> None:
        """Take the settings' number of steps on one group, and add a curve if it is one of the first.

        Parameters
        ----------
        group
            Its number.
        trained
            Parameters, by name.
        learning_rate
            AdamW's.
        losses
            Of a step's number, from which its noises follow, and some of its rows: their losses ``[B]``; step 0 is for the curve.
        progress
            Called after every step.
        """
        settings, name = self.generator.config, self.generator.name
        optimiser = torch.optim.AdamW(trained.values(), lr=learning_rate)
        batches, gradients = self.batches(group), Gradients(self.generator.backbone, trained.values())
        self._note(group, 0, losses)
        for step in range(1, settings.max_steps + 1):
            optimiser.zero_grad()
            gradients.add(next(batches), lambda some, step=step: losses(step, some))  # type: ignore[misc]
            optimiser.step()
            if step % max(1, settings.max_steps // 10) == 0:
                self._note(group, step, losses)
            progress(f"{name}, group {group + 1} of {len(self.liked)}", step, settings.max_steps)

    @torch.no_grad()
    def _note(self, group: int, step: int, losses: Callable[[int, Sequence[Row]], Tensor]) -> None:
        """Add a point to a group's curve: the loss at step 0's noises and times, for steps of their own differ by those."""
        if group < _CURVES:
            watched = min(WATCHED, 2 * self.generator.config.images_per_step)
            rows = [Row(place, item) for place, item in enumerate(self.liked[group][:watched])]
            parts = self.generator.backbone.batcher.map(
                "measuring", rows, WATCHED, lambda some: losses(0, some)
            )
            point = step, torch.cat(list(parts)).mean().item()
            self.curves.setdefault(f"denoising loss, group {group + 1}", []).append(point)
