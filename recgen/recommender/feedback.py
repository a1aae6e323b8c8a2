"""Likes and dislikes: the data of ranking models that are trained on labels rather than on likes alone.

These data are a RecBole dataset of their own, with ids of its own: everything that users liked and disliked before the test
items. As reward or judge such a model is trained on its half of them, as verifier on all. The held-out tenth, on which its
AUC is measured, is the same for all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_bytes
from recgen.recommender.negatives import sample_negatives
from recgen.recommender.recbole import DatasetSplits, loaders

LABEL = "label"


def is_pointwise(config: Any) -> bool:
    """Return whether a model is trained on likes and dislikes, by its RecBole Config.

    It is if its input type is POINTWISE and no negatives are sampled for it: its defaults say
    ``train_neg_sample_args: ~``, as Verifier's do, and the user's settings do not say otherwise.
    """
    from recbole.utils import InputType

    sampling = config["train_neg_sample_args"]["distribution"]
    return config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and sampling == "none"


def recbole_keys(given: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return RecBole's keys of a model over the likes and dislikes in `folder`.

    Parameters
    ----------
    given
        The user's RecBole keys. Those about data and evaluation describe the data to rank, so they are left out and the
        model's own defaults hold instead.
    own
        The user's keys for this model alone.
    folder
        Where `write_data` put the data.
    """
    from recbole.utils import dataset_arguments, evaluation_arguments

    ranking = {
        *dataset_arguments,
        *evaluation_arguments,
        "train_neg_sample_args",
        "eval_args",
        "valid_metric",
        "metrics",
    }
    return {
        **{key: value for key, value in given.items() if key not in ranking},
        **own,
        "dataset": folder.name,
        "data_path": str(folder.parent),
        "checkpoint_dir": str(folder.parent),
        "load_col": {"inter": ["user_id", "item_id", LABEL], "user": ["user_id"], "item": ["item_id"]},
        "threshold": None,
        "LABEL_FIELD": LABEL,
        "show_progress": False,
    }


def held_out(parts: DatasetSplits) -> pd.DataFrame:
    """Return the held-out tenth, on which AUCs are measured: columns user_id, item_id (tokens) and like (bool)."""
    rows, whole = parts.test.inter_feat, parts.whole
    tokens = {
        field: whole.id2token(field, rows[field].numpy()) for field in (whole.uid_field, whole.iid_field)
    }
    return pd.DataFrame({**tokens, "like": rows[LABEL].numpy() > 0.5})


def ranking_test(config: Any, likes: DatasetSplits, parts: DatasetSplits) -> Any:
    """Return RecBole's full-sort loader of the test likes, in the ids of the likes and dislikes.

    Candidates are those of every other ranking model: all items but the user's training and validation likes.

    Parameters
    ----------
    config
        RecBole's Config of the model, with the keys of the likes.
    likes
        The split likes, whose test part is to be ranked.
    parts
        The split likes and dislikes, whose ids the model uses.
    """
    moved = (_renumbered(likes.whole, part, parts.whole) for part in (likes.train, likes.valid, likes.test))
    return loaders(config, DatasetSplits(parts.whole, *moved)).test


def _renumbered(whole: Any, part: Any, target: Any) -> Any:
    """Return a part of one dataset as a dataset of users and items numbered as in `target`."""
    from recbole.data.interaction import Interaction

    rows = part.inter_feat
    columns = {}
    for old, new in ((whole.uid_field, target.uid_field), (whole.iid_field, target.iid_field)):
        columns[new] = target.token2id(new, whole.id2token(old, rows[old].numpy()))
    return target.copy(Interaction(columns))


def write_data(folder: Path, interactions: pd.DataFrame, items: pd.DataFrame, seed: int) -> None:
    """Write likes and dislikes as RecBole's atomic files to `folder`, under its name.

    Parameters
    ----------
    folder
        The new dataset's folder.
    interactions
        Columns user_id, item_id, like (bool) and split; the test likes are left out.
    items
        Column item_id, the whole catalogue.
    seed
        The run's seed. Where nobody dislikes anything, it decides which unseen items stand in for dislikes.
    """
    known = interactions[interactions["split"] != "test"]
    rows = pd.concat([known, _unseen(known, items, seed)]) if known["like"].all() else known
    tables: dict[str, dict[str, Any]] = {
        "inter": {
            "user_id:token": rows["user_id"],
            "item_id:token": rows["item_id"],
            f"{LABEL}:float": rows["like"].astype(np.int8),
        },
        "user": {"user_id:token": interactions["user_id"].unique()},
        "item": {"item_id:token": items["item_id"]},
    }
    for ending, columns in tables.items():
        write_bytes(folder / f"{folder.name}.{ending}", _atomic(columns), durable=False)


def _atomic(columns: Mapping[str, Any]) -> Any:
    """Return an atomic file's bytes, by pyarrow's writer: 30 times faster than pandas'."""
    import pyarrow as pa
    import pyarrow.csv as csv

    sink = pa.BufferOutputStream()
    sink.write(("\t".join(columns) + "\n").encode())  # without quotes, as RecBole splits it itself
    table = pa.table(dict(zip(columns, map(pa.array, columns.values()), strict=True)))
    csv.write_csv(table, sink, csv.WriteOptions(include_header=False, delimiter="\t"))
    return memoryview(sink.getvalue())


def _unseen(known: pd.DataFrame, items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return, for data without dislikes, as many unseen items per user as the user has likes, as dislikes.

    The test item is among the items that may be drawn: leaving it out would tell the model which item it is.
    """
    users, wanted = np.unique(known["user_id"].to_numpy(dtype=object), return_counts=True)
    return sample_negatives(known, users, wanted, items, seed, "unseen")
