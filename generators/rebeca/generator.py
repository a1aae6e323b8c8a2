"""REBECA: images from a diffusion prior over image embeddings, given a user (Patron et al., arXiv 2502.18477).

A prior learns p(image embedding | user, rating) from likes and dislikes; a creative is an embedding drawn for (user, like) and
decoded by a Stable-Diffusion pipeline through IP-Adapter. The item of a request only names the creative: REBECA
makes new images for the user, not versions of the item's.

A user without a single like to learn from has no token of their own: their creatives come from the unconditional p(image
embedding), what the whole audience was shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from generators.base import Progress, silent
from generators.common.sampling import Drawing, DrawsConditions
from generators.rebeca.embeddings import Standardisation
from generators.rebeca.prior import Prior
from generators.rebeca.sampling import sample
from generators.rebeca.settings import PROMPTS, Settings
from generators.rebeca.train import Ratings, train_prior
from recgen.core.errors import UserError
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel


class REBECA(DrawsConditions):
    """REBECA: draws image embeddings that a diffusion prior makes of user and rating; `Settings` names the ablations."""

    name = "rebeca"
    Config = Settings
    config: Settings

    prior: Prior | None = None
    standardisation: Standardisation
    users: dict[str, int]
    """Index of every user the prior knows."""

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Train the prior on the ratings of items that have an image; `reward` is not used."""
        if self.config.condition == "none":
            return
        ratings, self.users = _ratings(data)
        images, rows = np.unique(ratings.images, return_inverse=True)
        raw = torch.from_numpy(data.image_features[images])
        self.standardisation = Standardisation.of(raw)
        losses: list[tuple[int, float]] = []

        def report(step: int, steps: int, held_out: float | None) -> None:
            progress("REBECA prior", step, steps)
            if held_out is not None:
                losses.append((step, held_out))

        embeddings = self.standardisation.apply(raw).to(self.backbone.device)
        compact = Ratings(ratings.users, rows, ratings.likes)
        self.prior = train_prior(compact, embeddings, len(self.users), self.config, data.run_seed, report)
        self.curves = {"denoising loss, held-out likes": losses}

    def embeddings(self, requests: Sequence[Request]) -> np.ndarray:
        """Draw one raw image embedding per request from p(I_e | U, R = 1), float32 ``[n, D]``."""
        if self.prior is None:
            raise RuntimeError("REBECA draws nothing before fit or load")
        shared = None if self.config.user_embeddings else self.prior.no_user
        users = [self.users.get(request.user_id) if shared is None else shared for request in requests]
        seeds = [request.seed for request in requests]
        drawn = sample(self.prior, users, seeds, float(self.standardisation.bound), self.config)
        return self.standardisation.invert(drawn).numpy()

    def drawings(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawing]:
        """Yield each request's embedding from the prior, beside the prompt of the settings."""
        given: Sequence[np.ndarray | None] = [None] * len(requests)
        if self.config.condition == "prior":
            given = list(self.embeddings(requests))
        prompt, negative = PROMPTS[self.config.prompt]
        for request, embedding in zip(requests, given, strict=True):
            yield Condition(request.seed, prompt, negative, embedding), self._recipe(request)

    def _recipe(self, request: Request) -> dict[str, Any]:
        sampling = {"condition", "prompt", "user_embeddings", "guidance", "prior_steps", "eta"}
        recipe = self.config.model_dump(mode="json", include=sampling)
        if self.config.condition == "prior":
            recipe["known_user"] = request.user_id in self.users
        return recipe

    def save(self, folder: Path) -> None:
        """Write the prior, the standardisation and the users it knows."""
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {"condition": self.config.condition}
        if self.prior is not None:
            s = self.standardisation
            state = {
                f"prior.{name}": tensor.cpu().contiguous() for name, tensor in self.prior.state_dict().items()
            }
            state |= {"mean": s.mean, "scale": s.scale, "bound": s.bound}
            save_file(state, folder / "model.safetensors")
            facts |= {"shape": self.prior.shape, "users": list(self.users)}
        (folder / "config.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no REBECA, or one without a prior where this configuration needs one.
        """
        if not (folder / "config.json").exists():
            raise UserError(str(folder), found="no config.json", expected="a folder that REBECA saved")
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if self.config.condition == "none":
            return
        if "shape" not in facts:
            raise UserError(
                str(folder),
                found="condition: none, without a prior",
                expected="a prior",
                todo="Fit it again.",
            )
        state = load_file(folder / "model.safetensors")
        self.standardisation = Standardisation(state.pop("mean"), state.pop("scale"), state.pop("bound"))
        self.users = {token: index for index, token in enumerate(facts["users"])}
        self.prior = Prior(**facts["shape"])
        self.prior.load_state_dict({name.removeprefix("prior."): tensor for name, tensor in state.items()})
        self.prior.to(self.backbone.device).eval()


def _ratings(data: RunData) -> tuple[Ratings, dict[str, int]]:
    """Return the ratings to learn from, users numbered anew, and the number of every user with at least one like."""
    table = data.interactions
    table = table[~np.isnan(data.image_features[table["item"].to_numpy()]).any(axis=1)]
    table = table[table["user"].isin(table.loc[table["like"], "user"])]
    if table.empty:
        raise UserError("rebeca", found="no liked item with an image", expected="likes to learn from")
    known, users = np.unique(table["user"].to_numpy(), return_inverse=True)
    index = {data.user_ids[row]: number for number, row in enumerate(known)}
    return Ratings(users, table["item"].to_numpy(), table["like"].to_numpy(dtype=bool)), index
