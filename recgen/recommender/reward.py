"""The ranker stage: reward and judge on disjoint halves of the interactions, and the verifier on likes and dislikes.

A model that ranks learns from likes, the run's RecBole data; one that learns from labels from likes and dislikes, see
`recgen.recommender.feedback`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recgen.core.io import write_bytes, write_json
from recgen.core.seeding import seed_for
from recgen.pipeline.context import RunContext
from recgen.recommender import feedback as labelled
from recgen.recommender import recbole as hosting
from recgen.recommender.splits import split_by_user


def train(run: RunContext, role: str) -> list[Path]:
    """Train the model of one role and save it to ranker/<role>; return what was written.

    training.json tells every epoch, the best validation result (``valid``) and, for a model of likes and dislikes, the result
    on held-out ones (``test``, with the AUC).
    """
    task = _task(run, role)
    folder = run.folder / "ranker" / role
    data = hosting.loaders(task.config, task.parts, task.keep)
    trained = fit(run, task.config, data)
    if task.labelled:
        held_out = trained.trainer.evaluate(data.test, load_best_model=False, show_progress=False)
        trained.record["test"] = _finite(held_out)
    save(trained.model, folder)
    write_json(folder / "training.json", trained.record)
    return [folder / name for name in ("model.safetensors", "config.json", "training.json")]


@dataclass(frozen=True)
class Task:
    """What a role's model is trained on.

    Attributes
    ----------
    config
        RecBole's Config.
    parts
        The split data.
    keep
        bool ``[n_train]``, the training interactions this role may see; None: all.
    labelled
        Whether the data are likes and dislikes, rather than likes to rank by.
    """

    config: Any
    parts: hosting.DatasetSplits
    keep: np.ndarray | None
    labelled: bool


def _task(run: RunContext, role: str) -> Task:
    name = getattr(run.settings.ranker, role)
    extra = {
        "seed": seed_for(run.settings.seed, f"ranker {role}") % 2**31,
        "item_features": item_features(run),
    }
    if role == "verifier":
        labelled.check_verifier(run)
    whole = role == "verifier" or run.settings.ranker.same_judge
    if labelled.is_pointwise(run, name):
        config, parts = labelled.config(run, name, extra), labelled.split(run, name)
        return Task(config, parts, None if whole else labelled.half(run, parts, role), True)
    return Task(run.recbole_config(name, extra), run.split, None if whole else half(run, role), False)


def item_features(run: RunContext, image: Path | None = None) -> dict[str, str]:
    """Return the `item_features` key of our ranking models; `image` replaces the images' own embeddings."""
    folder = (run.folder / "features").resolve()
    found = {"image": image or folder / "image.safetensors", "text": folder / "text.safetensors"}
    return {kind: str(path) for kind, path in found.items() if path.with_suffix(".ids.txt").stat().st_size}


def half(run: RunContext, role: str) -> np.ndarray:
    """Return which training interactions the reward or the judge may see: bool ``[n_train]``.

    Each user's interactions are dealt out at random, seeded by the user: every one goes to exactly one of the two, and
    a user with at least two is known to both.
    """
    side = split_by_user(run.settings.seed, run.split.whole, run.split.train.inter_feat)
    return side if role == "reward" else ~side


class Trained:
    """A trained model and what its training did."""

    def __init__(self, model: Any, trainer: Any, seconds: float) -> None:
        self.model, self.trainer = model, trainer
        epochs = [
            {**epoch, "valid": _finite(epoch.get("valid"))} for epoch in getattr(trainer, "history", [])
        ]
        self.record = {
            "epochs": epochs,
            "valid": _finite(trainer.best_valid_result),
            "seconds": round(seconds, 3),
        }


def _finite(results: Mapping[str, float] | None) -> dict[str, float]:
    """Return results without those that are not numbers, such as the AUC where nobody dislikes anything."""
    return {name: float(value) for name, value in (results or {}).items() if math.isfinite(value)}


def fit(run: RunContext, config: Any, data: hosting.Loaders) -> Trained:
    """Train one model by RecBole's trainer for it; the model then holds its best epoch."""
    from recbole.utils import get_trainer, init_seed

    init_seed(config["seed"], config["reproducibility"])
    run.prepare_torch()  # init_seed sets cudnn flags only, and RecBole's Config the visible devices
    started = time.perf_counter()
    model = config.model_class(config, data.train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(data.train, data.valid, verbose=False, saved=False, show_progress=config["show_progress"])
    return Trained(model, trainer, time.perf_counter() - started)


def save(model: Any, folder: Path) -> None:
    """Write a model's parameters as safetensors and what it is as JSON."""
    from safetensors.torch import save as to_bytes

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", to_bytes(state))
    about: dict[str, Any] = getattr(model, "identity", {"model": type(model).__name__})
    if hasattr(model, "settings"):
        about = {**about, "settings": model.settings.model_dump()}
    write_json(folder / "config.json", about)


class Ranker:
    """A trained ranking model of a run, by tokens; it is read from its folder when it is first asked something.

    This is what generators get as their reward. Scores are the model's own: of a model of likes and dislikes, logits.

    Parameters
    ----------
    run
        The run.
    role
        reward, judge or verifier.
    """

    def __init__(self, run: RunContext, role: str) -> None:
        self.run, self.role = run, run.resolve_role(role)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from safetensors.torch import load_file

        task = _task(self.run, self.role)
        data = hosting.loaders(task.config, task.parts, task.keep)
        self.run.prepare_torch()
        model = task.config.model_class(task.config, data.train.dataset).to(task.config["device"])
        model.load_state_dict(load_file(self.run.folder / "ranker" / self.role / "model.safetensors"))
        model.eval()
        return model, task.parts.whole

    @property
    def model(self) -> Any:
        """The RecBole model, in evaluation mode."""
        return self._loaded[0]

    @property
    def dataset(self) -> Any:
        """The RecBole dataset whose ids the model uses."""
        return self._loaded[1]

    @cached_property
    def what_if(self) -> Any:
        """The scorer of replaced images, by RecBole's ids."""
        return self.model.what_if(self.run.settings.ranker.what_if)

    def ids(self, users: Sequence[str], items: Sequence[str]) -> tuple[Any, Any]:
        """Return RecBole's ids of users and items as two LongTensors ``[B]``."""
        import torch

        rows = [
            self.dataset.token2id(field, np.asarray(tokens, dtype=object))
            for field, tokens in ((self.dataset.uid_field, users), (self.dataset.iid_field, items))
        ]
        user, item = (
            torch.as_tensor(np.asarray(row), dtype=torch.long, device=self.model.device) for row in rows
        )
        return user, item

    def score(self, users: Sequence[str], items: Sequence[str], embeddings: Any) -> Any:
        """Return the score ``[B]`` each user would give each item with an image of embedding ``[B, D]`` (raw CLIP)."""
        return self.what_if.score(*self.ids(users, items), self._tensor(embeddings))

    def probability(self, users: Sequence[str], items: Sequence[str], embeddings: Any) -> Any:
        """Return P(like) ``[B]``; for a model of likes and dislikes, whose scores are logits. Arguments as for `score`."""
        return self.score(users, items, embeddings).sigmoid()

    def rank(self, users: Sequence[str], items: Sequence[str], embeddings: Any) -> Any:
        """Return the 0-based rank ``[B]`` among all items that each item would have with that image."""
        return self.what_if.rank(*self.ids(users, items), self._tensor(embeddings))

    def score_original(self, users: Sequence[str], items: Sequence[str]) -> Any:
        """Return the score ``[B]`` with the items' own images."""
        return self.what_if.score_original(*self.ids(users, items))

    def rank_original(self, users: Sequence[str], items: Sequence[str]) -> Any:
        """Return the 0-based rank ``[B]`` with the items' own images."""
        return self.what_if.rank_original(*self.ids(users, items))

    def score_all(self, users: Sequence[str], items: Sequence[str]) -> Any:
        """Return the scores ``[B, N]`` of each of B users for each of N items with the items' own images."""
        import torch

        rows, columns = (
            torch.as_tensor(self.dataset.token2id(field, np.asarray(tokens, dtype=object)), dtype=torch.long)
            for field, tokens in ((self.dataset.uid_field, users), (self.dataset.iid_field, items))
        )
        return self.what_if.score_all(rows.to(self.model.device))[:, columns.to(self.model.device)]

    def unseen(self) -> Any:
        """Return a table of encounters that the model was not trained on: user_id, item_id (tokens) and like (bool)."""
        from recgen.recommender.unseen import unseen_encounters

        return unseen_encounters(self.run, getattr(self.run.settings.ranker, self.role))

    def _tensor(self, embeddings: Any) -> Any:
        import torch

        return torch.as_tensor(embeddings, dtype=torch.float32, device=self.model.device)
