"""The data of ranking models that learn from labels: what users liked and disliked before their references, with ids of its own.

A model learns from labels if its RecBole input type is POINTWISE and no negatives are sampled for it (its defaults have
``train_neg_sample_args: ~``, as Verifier's). As reward or judge such a model is trained on its half of these data, as verifier on
all of them. The held-out tenth, on which its AUC is measured, is the same for all three.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recgen.config import plugins
from recgen.core.errors import UserError
from recgen.core.io import write_bytes
from recgen.core.seeding import numpy_rng, seed_for
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole as hosting
from recgen.recommender.splits import split_by_user


def is_pointwise(run: RunContext, name: str) -> bool:
    """Return whether a ranking model, by its class, its defaults and its block in the YAML, learns from likes and dislikes."""
    from recbole.utils import InputType

    found = config(run, name, {})
    return (
        found["MODEL_INPUT_TYPE"] == InputType.POINTWISE
        and found["train_neg_sample_args"]["distribution"] == "none"
    )


def check_verifier(run: RunContext) -> None:
    """Raise `UserError` where the verifier is a model that ranks: it has to say how likely a like is."""
    name = run.settings.ranker.verifier
    if not is_pointwise(run, name):
        raise UserError(
            f"{run.config.source}: recgen.ranker.verifier",
            found=f"{name}, which is not trained on likes and dislikes",
            expected="a model that learns from labels",
            todo="Set it to Verifier, without train_neg_sample_args in its settings.",
        )


def config(run: RunContext, name: str, extra: dict[str, Any]) -> Any:
    """Return RecBole's Config of a model over the labelled data.

    RecBole's keys about data and evaluation describe the ranking data, so here the model's own defaults hold instead.
    """
    from recbole.utils import dataset_arguments, evaluation_arguments

    folder = run.folder / "recbole/labelled"
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
    cls = plugins.load(plugins.RANKING_MODELS, name, f"{run.config.source}: recgen.ranker")
    return hosting.recbole_config(cls, {**keys, **extra})


def split(run: RunContext, name: str) -> hosting.DatasetSplits:
    """Return the labelled data, split for training, early stopping and the held-out AUC: alike for every role and seed."""
    if name not in run.labelled:
        _write_data(run)
        seed = seed_for(run.settings.seed, "labelled split") % 2**31
        run.labelled[name] = hosting.split(config(run, name, {"seed": seed}), run.config.source)
    return run.labelled[name]


def held_out(run: RunContext, name: str) -> pd.DataFrame:
    """Return the held-out tenth, on which AUCs are measured: columns user_id, item_id (tokens) and like (bool)."""
    parts = split(run, name)
    rows, whole = parts.test.inter_feat, parts.whole
    tokens = {
        field: whole.id2token(field, rows[field].numpy()) for field in (whole.uid_field, whole.iid_field)
    }
    return pd.DataFrame({**tokens, "like": rows["label"].numpy() > 0.5})


def half(run: RunContext, parts: hosting.DatasetSplits, role: str) -> np.ndarray:
    """Return which labelled training interactions the reward or the judge may see: bool ``[n_train]``.

    Each user's likes and dislikes are dealt out apart, at random and seeded by the user, so that each of the two gets half
    of the likes and half of the dislikes, one more or less.
    """
    rows = parts.train.inter_feat
    side = split_by_user(run.settings.seed, parts.whole, rows, rows["label"].numpy().astype(int))
    return side if role == "reward" else ~side


def ranking_test(run: RunContext, model_config: Any, parts: hosting.DatasetSplits) -> Any:
    """Return the full-sort loader of the run's test likes in the ids of the labelled data.

    Candidates are those of every other judge: all items but the user's training and validation likes.
    """
    own = run.split
    moved = (_renumbered(own.whole, part, parts.whole) for part in (own.train, own.valid, own.test))
    return hosting.loaders(model_config, hosting.DatasetSplits(parts.whole, *moved)).test


def _renumbered(whole: Any, part: Any, target: Any) -> Any:
    """Return a part of one dataset as a dataset of users and items numbered as in `target`."""
    from recbole.data.interaction import Interaction

    rows = part.inter_feat
    columns = {}
    for old, new in ((whole.uid_field, target.uid_field), (whole.iid_field, target.iid_field)):
        columns[new] = target.token2id(new, whole.id2token(old, rows[old].numpy()))
    return target.copy(Interaction(columns))


def _write_data(run: RunContext) -> None:
    folder = run.folder / "recbole/labelled"
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


def _unseen(run: RunContext, known: pd.DataFrame) -> pd.DataFrame:
    """Return as many items that a user has not met as likes, as dislikes: for data in which nobody dislikes anything.

    The reference is among the items that may be drawn: leaving it out would tell the model which item it is.
    """
    items = run.items["item_id"].to_numpy()
    frames = []
    for user, liked in known.groupby("user_id", sort=False):
        free = items[~np.isin(items, liked["item_id"].to_numpy())]
        rng = numpy_rng(run.settings.seed, "unseen", str(user))
        chosen = rng.choice(free, size=min(len(liked), len(free)), replace=False)
        frames.append(pd.DataFrame({"user_id": user, "item_id": chosen, "like": False}))
    return pd.concat(frames)
