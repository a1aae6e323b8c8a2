"""The ranker stage: reward and judge on disjoint halves of the interactions, and the verifier on likes and dislikes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen import hosting, plugins
from recgen.run import Run
from recgen.seeding import numpy_rng, seed_for
from recgen.workspace import write_bytes, write_json


def train(run: Run, role: str) -> list[Path]:
    """Train the model of one role and save it to ranker/<role>; return what was written."""
    config, parts, keep = _task(run, role)
    folder = run.folder / "ranker" / role
    trained = fit(run, config, hosting.loaders(config, parts, keep))
    save(trained.model, folder)
    write_json(folder / "training.json", trained.record)
    return [folder / name for name in ("model.safetensors", "config.json", "training.json")]


def _task(run: Run, role: str) -> tuple[Any, hosting.Split, np.ndarray | None]:
    """Return RecBole's Config, the split data and the training interactions of a role."""
    name = getattr(run.settings.ranker, role)
    seed = {
        "seed": seed_for(run.settings.seed, f"ranker {role}") % 2**31,
        "item_features": item_features(run),
    }
    if role == "verifier":
        config = verifier_config(run, name, seed)
        return config, hosting.split(config, run.config.source), None
    keep = None if run.settings.ranker.same_judge else half(run, role)
    return run.recbole_config(name, seed), run.split, keep


def item_features(run: Run, image: Path | None = None) -> dict[str, str]:
    """Return the `item_features` key of our ranking models; `image` replaces the pictures' own embeddings."""
    folder = (run.folder / "features").resolve()
    found = {"image": image or folder / "image.safetensors", "text": folder / "text.safetensors"}
    return {kind: str(path) for kind, path in found.items() if path.with_suffix(".ids.txt").stat().st_size}


def half(run: Run, role: str) -> np.ndarray:
    """Return which training interactions the reward or the judge may see: bool ``[n_train]``.

    Each user's interactions are dealt out at random, seeded by the user: every one goes to exactly one of the two, and
    a user with at least two is known to both.
    """
    whole, rows = run.split.whole, run.split.train.inter_feat
    users = rows[whole.uid_field].numpy()
    side = np.empty(len(users), dtype=bool)
    order = np.argsort(users, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        token = whole.id2token(whole.uid_field, users[mine[0]])
        rng = numpy_rng(run.settings.seed, "halves", str(token))
        side[mine] = rng.permutation((np.arange(len(mine)) + rng.integers(2)) % 2 == 0)
    return side if role == "reward" else ~side


class Trained:
    """A trained model and what its training did."""

    def __init__(self, model: Any, trainer: Any, seconds: float) -> None:
        self.model, self.trainer = model, trainer
        epochs = [{**epoch, "valid": _finite(epoch.get("valid"))} for epoch in getattr(trainer, "history", [])]
        self.record = {"epochs": epochs, "valid": _finite(trainer.best_valid_result), "seconds": round(seconds, 3)}


def _finite(results: Mapping[str, float] | None) -> dict[str, float]:
    """Return results without those that are not numbers, such as the AUC where nobody dislikes anything."""
    return {name: float(value) for name, value in (results or {}).items() if math.isfinite(value)}


def fit(run: Run, config: Any, data: hosting.Loaders) -> Trained:
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

    This is what generators get as their reward.

    Parameters
    ----------
    run
        The run.
    role
        reward, judge or verifier.
    """

    def __init__(self, run: Run, role: str) -> None:
        self.run, self.role = run, run.acting(role)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from safetensors.torch import load_file

        config, parts, keep = _task(self.run, self.role)
        data = hosting.loaders(config, parts, keep)
        self.run.prepare_torch()
        model = config.model_class(config, data.train.dataset).to(config["device"])
        model.load_state_dict(load_file(self.run.folder / "ranker" / self.role / "model.safetensors"))
        model.eval()
        return model, parts.whole

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
        """The scorer of replaced pictures, by RecBole's ids."""
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
        """Return the score ``[B]`` each user would give each item with a picture of embedding ``[B, D]`` (raw CLIP)."""
        return self.what_if.score(*self.ids(users, items), self._tensor(embeddings))

    def rank(self, users: Sequence[str], items: Sequence[str], embeddings: Any) -> Any:
        """Return the 0-based rank ``[B]`` among all items that each item would have with that picture."""
        return self.what_if.rank(*self.ids(users, items), self._tensor(embeddings))

    def score_original(self, users: Sequence[str], items: Sequence[str]) -> Any:
        """Return the score ``[B]`` with the items' own pictures."""
        return self.what_if.score_original(*self.ids(users, items))

    def rank_original(self, users: Sequence[str], items: Sequence[str]) -> Any:
        """Return the 0-based rank ``[B]`` with the items' own pictures."""
        return self.what_if.rank_original(*self.ids(users, items))

    def _tensor(self, embeddings: Any) -> Any:
        import torch

        return torch.as_tensor(embeddings, dtype=torch.float32, device=self.model.device)


def verifier_config(run: Run, name: str, extra: dict[str, Any]) -> Any:
    """Return RecBole's Config of the verifier over its own data set: everything known before the references, labelled.

    RecBole's keys about data and evaluation describe the ranking data, so here the model's own defaults hold instead.
    """
    from recbole.utils import dataset_arguments, evaluation_arguments

    folder = run.folder / "recbole/verifier"
    _write_verifier_data(run, folder)
    ranking = {
        *dataset_arguments,
        *evaluation_arguments,
        "train_neg_sample_args",
        "eval_args",
        "valid_metric",
        "metrics",
    }
    keys = {key: value for key, value in run.config.recbole.items() if key not in ranking}
    keys |= run.settings.ranker.settings.get(name, {})
    keys |= {
        "dataset": folder.name,
        "data_path": str(folder.parent),
        "checkpoint_dir": str(folder.parent),
        "load_col": {"inter": ["user_id", "item_id", "label"], "user": ["user_id"], "item": ["item_id"]},
        "threshold": None,
        "LABEL_FIELD": "label",
        "show_progress": False,
    }
    cls = plugins.load(plugins.RANKING_MODELS, name, f"{run.config.source}: recgen.ranker.verifier")
    return hosting.recbole_config(cls, {**keys, **extra})


def _write_verifier_data(run: Run, folder: Path) -> None:
    known = run.interactions[run.interactions["split"] != "test"]
    rows = pd.concat([known, _unseen(run, known)]) if known["like"].all() else known
    labelled = {
        "user_id:token": rows["user_id"],
        "item_id:token": rows["item_id"],
        "label:float": rows["like"] * 1.0,
    }
    tables = {
        "inter": pd.DataFrame(labelled),
        "user": pd.DataFrame({"user_id:token": run.interactions["user_id"].unique()}),
        "item": pd.DataFrame({"item_id:token": run.items["item_id"]}),
    }
    for ending, table in tables.items():
        write_bytes(
            folder / f"{folder.name}.{ending}", table.to_csv(sep="\t", index=False).encode(), durable=False
        )


def _unseen(run: Run, known: pd.DataFrame) -> pd.DataFrame:
    """Return as many items that a user never met as likes, as dislikes: for data in which nobody dislikes anything."""
    items = run.items["item_id"].to_numpy()
    met = run.interactions.groupby("user_id")["item_id"].agg(set)
    frames = []
    for user, liked in known.groupby("user_id", sort=False):
        free = items[~np.isin(items, list(met[user]))]
        rng = numpy_rng(run.settings.seed, "unseen", str(user))
        chosen = rng.choice(free, size=min(len(liked), len(free)), replace=False)
        frames.append(pd.DataFrame({"user_id": user, "item_id": chosen, "like": False}))
    return pd.concat(frames)
