"""The way into RecBole: its Config, its Dataset split once, its data loaders, its models by name.

RecBole's Config reads `sys.argv` and evaluates strings of a `config_dict` as Python; here it is given neither, but a YAML
file that holds the checked configuration. Its training starts TensorBoard writers and checkpoint folders in the working
directory; `recgen.recommender.training` leaves both out.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from recgen.config import plugins
from recgen.core.errors import UserError
from recgen.core.remote import is_url
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.at_url import copy_of

# RecBole 1.2.1 fills columns in place, of which pandas 2 warns for every column of every reading; there is nothing to do about it
warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")

VALID_USERS = 20_000
"""Users by whom early stopping goes, where the key ``valid_users`` does not say: Recall is then known to 0.3 points."""
PACKAGED = "ml-100k"  # the one data set inside RecBole's own package

_DATA_KEYS = frozenset(  # RecBole's `dataset_arguments`, and where and how the data is read and split
    """
    dataset data_path field_separator seq_separator encoding USER_ID_FIELD ITEM_ID_FIELD RATING_FIELD TIME_FIELD
    seq_len LABEL_FIELD threshold NEG_PREFIX ITEM_LIST_LENGTH_FIELD LIST_SUFFIX MAX_ITEM_LIST_LENGTH POSITION_FIELD
    HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD kg_reverse_r
    entity_kg_num_interval relation_kg_num_interval load_col unload_col unused_col additional_feat_suffix
    rm_dup_inter val_interval filter_inter_by_user_or_item user_inter_num_interval item_inter_num_interval
    alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id preload_weight normalize_field
    normalize_all benchmark_filename numerical_features discretization eval_args seed reproducibility
    """.split()
)
_NO_MATTER = (
    "show_progress",
    "state",
    "checkpoint_dir",
    "log_wandb",
    "wandb_project",
    "worker",
    "log_tensorboard",
)


def data_keys(recbole: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of RecBole's keys that decide what the data set is."""
    return {key: value for key, value in recbole.items() if key in _DATA_KEYS}


def training_keys(recbole: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of RecBole's keys that may change what a training results in."""
    return {key: value for key, value in recbole.items() if key not in _NO_MATTER}


@dataclass(frozen=True)
class DatasetSplits:
    """RecBole's Dataset objects after its own filtering, numbering and splitting.

    `sides` is filled by `recgen.recommender.splits.half`: which training interactions are the reward's, by how they are split.
    """

    whole: Any
    train: Any
    valid: Any
    test: Any
    sides: dict[tuple[int, str | None], np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Loaders:
    """RecBole's data loaders of one training."""

    train: Any
    valid: Any
    test: Any


def data_url(recbole: Mapping[str, Any]) -> str | None:
    """Return the URL of the folder of the atomic files; None where `data_path` is a path."""
    place = recbole.get("data_path", "")
    if recbole["dataset"] == PACKAGED or not is_url(place):
        return None
    return f"{place.rstrip('/')}/{recbole['dataset']}"


def data_folder(recbole: Mapping[str, Any]) -> Path:
    """Return the folder of the atomic files, where RecBole looks for it: of what lies at an URL, where the copy is."""
    if recbole["dataset"] == PACKAGED:
        import recbole as package

        return Path(package.__path__[0]) / "dataset_example" / PACKAGED
    url = data_url(recbole)
    if url is not None:
        return copy_of(url)
    return Path(recbole.get("data_path", "dataset/")) / recbole["dataset"]


def with_defaults(
    given: Mapping[str, Any],
    seed: int,
    like_threshold: float | None,
    columns: list[str],
    has_items: bool,
) -> dict[str, Any]:
    """Return RecBole's keys: recgen's defaults under the user's own, and the columns a run needs among those to load.

    Parameters
    ----------
    given
        The user's RecBole keys.
    seed
        The run's seed.
    like_threshold
        Ratings from here up are likes; None makes every interaction one.
    columns
        Field names of the data set's `.inter` file.
    has_items
        Whether there is an `.item` file; the catalogue is then all of it, and not the items somebody liked.
    """
    user, item = given.get("USER_ID_FIELD", "user_id"), given.get("ITEM_ID_FIELD", "item_id")
    rating, time = given.get("RATING_FIELD", "rating"), given.get("TIME_FIELD", "timestamp")
    keys: dict[str, Any] = {
        "seed": seed_for(seed, "recbole") % 2**31,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "Recall@20",
        "show_progress": False,
        "load_col": {"inter": [user, item], **({"item": [item]} if has_items else {})},
    }
    if like_threshold is not None and rating in columns:
        keys["val_interval"] = {rating: f"[{like_threshold},inf)"}
    keys |= given
    if "topk" in given and "valid_metric" not in given:
        keys["valid_metric"] = (
            f"Recall@{max(np.atleast_1d(given['topk']).tolist())}"  # measured at given cutoffs only
        )
    loaded = keys["load_col"]
    if isinstance(loaded, dict) and isinstance(loaded.get("inter"), list):
        wanted = [name for name in (rating, time) if name in columns]
        keys["load_col"] = {**loaded, "inter": list(dict.fromkeys([*loaded["inter"], *wanted]))}
    return keys


def model_class(name: str, where: str) -> Any:
    """Return a ranking model's class: an installed one's (`recgen.config.plugins`) or, by the same name, RecBole's own.

    Raises
    ------
    UserError
        When there is neither.
    """
    from recbole.utils import get_model

    if name not in plugins.names(plugins.RANKING_MODELS) and name in plugins.recbole_models():
        return get_model(name)
    return plugins.load(plugins.RANKING_MODELS, name, where)


def reads_images(model: Any) -> bool:
    """Return whether a ranking model, or its class, reads images of items: it has `features`, or scores other images itself."""
    return hasattr(model, "what_if") or hasattr(model, "features")


def scores_by_images(model: Any) -> bool:
    """Return whether another image of an item changes what a trained model says; BM3, for one, reads images in training alone."""
    return reads_images(model) and getattr(model, "scores_by_images", True)


def check_scores_by_images(name: str, where: str) -> None:
    """Raise `UserError` when no creative could change what a trained ranking model says."""
    model = model_class(name, where)
    if reads_images(model) and not scores_by_images(model):
        raise UserError(
            where,
            found=f"{name}, which reads images in training alone: once trained, it scores an item alike whatever its image, "
            "so that its what-if is zero by construction",
            expected="a model that reads an item's image when it scores",
            todo=f"Take another, such as LATTICE, MICRO or VBPR, or set recgen.downstream.model to {name}.",
        )
    if not scores_by_images(model):
        raise UserError(
            where,
            found=f"{name}, which reads no images: another image would change none of its scores",
            expected="a model with a method features(modality), or what_if(mode)",
            todo="Take another, or set recgen.downstream.model to it.",
        )


def check_shows_redraws(name: str, where: str) -> None:
    """Raise `UserError` when a ranking model learns from the items' own images alone."""
    if not getattr(model_class(name, where), "shows_redraws", False):
        raise UserError(
            where,
            found=f"redraws for {name}, which learns from the items' own images alone",
            expected="models that show redraws in training, such as Verifier and VBPR",
            todo="Set it to 0, or take another model.",
        )


def recbole_config(model: type, keys: Mapping[str, Any]) -> Any:
    """Return RecBole's Config of a model class from plain keys; nothing in them is evaluated."""
    from recbole.config import Config

    from recgen.core.compat import prepare_recbole_graphs, recbole_yaml, register_recbole_model

    prepare_recbole_graphs()
    register_recbole_model(model)
    with tempfile.TemporaryDirectory() as folder, _no_arguments(), recbole_yaml():
        file = Path(folder) / "recgen.yaml"
        file.write_text(yaml.safe_dump(dict(keys)), encoding="utf-8")
        found = Config(model=model, dataset=keys["dataset"], config_file_list=[str(file)])
    found.yaml_loader = yaml.FullLoader
    return found


@contextmanager
def _no_arguments() -> Iterator[None]:
    """Hide the command line, of which RecBole's Config would take every `--key=value` for its own."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def split(config: Any, where: str, target: str = "test") -> DatasetSplits:
    """Load, filter, number and split the data set by RecBole's rules.

    Parameters
    ----------
    config
        RecBole's Config.
    where
        The YAML, for messages.
    target
        `test` as RecBole splits; `validation` takes the test part away and splits what is left by the same rules: with
        leave-one-out each user's data end one like sooner, and the former validation item is the test item. Users and items
        stay those of the whole data set, with their numbers.

    Raises
    ------
    UserError
        Where RecBole refuses the data or leaves nothing to train on.
    """
    from recbole.data import create_dataset
    from recbole.utils import init_seed

    from recgen.core.compat import recbole_csv

    init_seed(config["seed"], config["reproducibility"])
    try:
        with recbole_csv(_kept(config)):
            whole = create_dataset(config)
        built = whole.build()
        if target == "validation":
            whole = _without_test(whole, built, where)
            built = whole.build()
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(
            where, found=str(error), expected="data that RecBole can load with these keys"
        ) from error
    for name, part in zip(("training", "validation", "test"), built, strict=True):
        if len(part.inter_feat) == 0:
            raise UserError(
                where, found=f"no {name} interactions", expected="some of each after filtering and splitting"
            )
    return DatasetSplits(whole, *built)


def _kept(config: Any) -> Callable[[str, Any], Any]:
    """Return what drops interactions as they are read that RecBole would drop by ``val_interval`` when it has read them all.

    Most interactions are no likes. Where RecBole looks at all of them first, for pairs that are there twice or parts of one's
    own, all are read.
    """
    from recbole.data.dataset import Dataset

    intervals = config["val_interval"] or {}
    early = config["rm_dup_inter"] is None and config["benchmark_filename"] is None
    reader = SimpleNamespace(logger=logging.getLogger())

    def keep(path: str, piece: Any) -> Any:
        if not early or not path.endswith(".inter"):
            return piece
        rows = np.ones(len(piece), dtype=bool)
        for column in piece:
            field, _, kind = column.partition(":")
            if kind == "float" and field in intervals:
                wanted = Dataset._parse_intervals_str(reader, intervals[field])
                rows &= Dataset._within_intervals(None, piece[column].to_numpy(), wanted)
        return piece[rows]

    return keep


def _without_test(whole: Any, built: list[Any], where: str) -> Any:
    """Return a dataset of the training and validation interactions, ready to be split again."""
    from recbole.data.interaction import cat_interactions

    if whole.benchmark_filename_list is not None:
        raise UserError(
            f"{where}: benchmark_filename",
            found="a split of one's own",
            expected="one by RecBole's rules, which can end sooner",
        )
    train, valid, _ = built
    rest = whole.copy(cat_interactions([train.inter_feat, valid.inter_feat]))
    rest._change_feat_format = lambda: None  # its columns are tensors already
    return rest


def of_some_users(part: Any, seed: int, wanted: int) -> Any:
    """Return a part of the data with the interactions of at most `wanted` users, drawn by `seed`.

    RecBole ranks for a few users at a time: with a million of them an epoch is validated for longer than it is trained.
    """
    users = part.inter_feat[part.uid_field].numpy()
    different = np.unique(users)
    if len(different) <= wanted:
        return part
    drawn = numpy_rng(seed, "valid users").choice(different, size=wanted, replace=False)
    return part.copy(part.inter_feat[np.flatnonzero(np.isin(users, drawn))])


def training_part(parts: DatasetSplits, keep: np.ndarray | None = None) -> Any:
    """Return the RecBole dataset of the training interactions to use, as of `loaders`: all that a trained model is built on."""
    return parts.train if keep is None else parts.train.copy(parts.train.inter_feat[keep.nonzero()[0]])


def loaders(config: Any, parts: DatasetSplits, keep: np.ndarray | None = None) -> Loaders:
    """Return the data loaders of one training.

    Parameters
    ----------
    config
        RecBole's Config of the model to train; it must describe the data of `parts`.
    parts
        The split data.
    keep
        bool ``[n_train]``, the training interactions to use; None uses all. The catalogue stays whole.
    """
    from recbole.data import utils

    items, longest = parts.whole.item_num - 1, max(config["topk"])
    if config["eval_args"]["mode"]["valid"] == "full" and longest > items:
        raise UserError(
            f"data set {config['dataset']}",
            found=f"{items} items",
            expected=f"at least {longest}, as in topk",
        )
    train = training_part(parts, keep)
    valid = of_some_users(parts.valid, config["seed"], config["valid_users"] or VALID_USERS)
    samplers = utils.create_samplers(config, parts.whole, [train, valid, parts.test])
    return Loaders(
        *(
            utils.get_dataloader(config, phase)(
                config, data, sampler, shuffle=phase == "train" and config["shuffle"]
            )
            for phase, data, sampler in zip(
                ("train", "valid", "test"), (train, valid, parts.test), samplers, strict=True
            )
        )
    )
