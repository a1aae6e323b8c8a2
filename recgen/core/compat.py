"""Work-arounds for other projects' releases, each with its upstream issue; nothing else lives here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError


def prepare_torchvision() -> None:
    """Make `import torchvision` work beside a CPU build of torch.

    PyPI's torchvision carries operators compiled for the CUDA build of torch; beside a CPU build they do not load and the
    import fails with "operator torchvision::nms does not exist", and transformers, peft, diffusers and
    open_clip fail with it. Defining the two schemas is enough: nothing here calls the operators.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP.append(library)


_KEEP: list[object] = []  # a Library undoes its definitions when it is collected


def register_recbole_model(model_class: Any) -> None:
    """Make RecBole find a model of another package by name, with its defaults and its trainer.

    RecBole looks for models only inside its own package (RecBole issues 489, 1071, 1544, 1934, among others), for default
    settings only in its own `properties` folder, and for a trainer only as ``<Model>Trainer`` in `recbole.trainer`.

    Parameters
    ----------
    model_class
        A RecBole model class, in a module that has it as an attribute. It may have two class attributes: ``defaults``, the
        path of a YAML of settings (they yield to the user's), and ``trainer``, the trainer class to use for it.
    """
    import sys

    import recbole.model.general_recommender
    import recbole.trainer
    from recbole.config import Config

    name = model_class.__name__
    sys.modules[f"recbole.model.general_recommender.{name.lower()}"] = sys.modules[model_class.__module__]
    if hasattr(model_class, "trainer"):
        setattr(recbole.trainer, f"{name}Trainer", model_class.trainer)
    if not _RECBOLE_DEFAULTS:
        load_internal = Config._load_internal_config_dict

        def load_with_defaults(self: Any, model: str, model_class: Any, dataset: str) -> None:
            load_internal(self, model, model_class, dataset)
            if model in _RECBOLE_DEFAULTS:
                self._update_internal_config_dict(str(_RECBOLE_DEFAULTS[model]))

        Config._load_internal_config_dict = load_with_defaults
    if hasattr(model_class, "defaults"):
        _RECBOLE_DEFAULTS[name] = model_class.defaults


_RECBOLE_DEFAULTS: dict[str, Path] = {}


def prepare_recbole_graphs() -> None:
    """Make RecBole's graph models (LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN, MCCLK) build their graphs.

    They call `dok_matrix._update`, which scipy dropped in 1.13 (RecBole issues 2034, 2090 and 2185).
    """
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda matrix, data: matrix._dict.update(data)


@contextmanager
def recbole_yaml() -> Iterator[None]:
    """Let RecBole's Config read its YAML files with a loader in C inside this block: the same values in a tenth of the time.

    RecBole asks for PyYAML's loader in Python, and adds its pattern of floats to that class, which others use too, once more with
    each Config. Where PyYAML has no libyaml it does so here too. The Config must not keep the loader, which no pickle can name.
    """
    import yaml
    from recbole.config import Config

    of_recbole = Config._build_yaml_loader
    if yaml.__with_libyaml__:
        Config._build_yaml_loader = lambda self: _recbole_loader(of_recbole)
    try:
        yield
    finally:
        Config._build_yaml_loader = of_recbole


@cache
def _recbole_loader(of_recbole: Callable[[Any], Any]) -> type:
    """Return the loader in C with the patterns of the one that RecBole builds, which is built once for them."""
    import yaml

    resolvers = of_recbole(None).yaml_implicit_resolvers
    return type("Loader", (yaml.CFullLoader,), {"yaml_implicit_resolvers": resolvers})


@contextmanager
def recbole_csv(keep: Callable[[str, Any], Any] = lambda path, piece: piece) -> Iterator[None]:
    """Let RecBole read its atomic files with pandas' parser in C inside this block: the same values, ten times faster.

    RecBole asks for pandas' parser in Python, which splits as the other one does where the separator is a single character; it is
    left where it is longer. The file is read in pieces, so that tokens that are equal take their place in memory once; `keep` is
    given the file's path and each piece, and returns the rows of it that are kept.
    """
    import pandas as pd

    from recgen.core.columns import ROWS, shared

    original = pd.read_csv

    def read_csv(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("engine") != "python" or len(kwargs.get("delimiter") or "") != 1:
            return original(*args, **kwargs)
        words: dict[str, str] = {}
        pieces = []
        for read in original(*args, **kwargs | {"engine": "c", "low_memory": False, "chunksize": ROWS}):
            piece = keep(str(args[0]), read)
            texts = [name for name in piece if piece[name].dtype == object]
            pieces.append(piece.assign(**{name: shared(piece[name], words) for name in texts}))
        return pd.concat(pieces, ignore_index=True)

    pd.read_csv = read_csv
    try:
        yield
    finally:
        pd.read_csv = original


@contextmanager
def recbole_batches(joined: bool = True) -> Iterator[None]:
    """Let RecBole take rows and negatives by arrays inside this block: the same batches, a training in half of the time.

    RecBole makes a list of Python's numbers of the rows of a batch, after torch's loader has looked up each of them in a list of
    all numbers; torch turns it back for every column; and what its `Sampler` has drawn is looked up in each user's set, one by
    one. Without `joined`, batches lack the columns of user and item features, which models that read ids alone never look at.
    """
    from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction
    from recbole.sampler import Sampler

    batches, rows, negatives = AbstractDataLoader.__iter__, Interaction.__getitem__, Sampler.sample_by_key_ids
    join = Dataset.join
    Dataset.join = lambda self, found: join(self, found) if joined else found
    AbstractDataLoader.__iter__ = lambda self: batches(self) if self.num_workers else _batches(self)
    Interaction.__getitem__ = lambda self, index: (
        rows(self, index) if isinstance(index, str) else _rows(self, index, rows)
    )
    Sampler.sample_by_key_ids = _negatives
    try:
        yield
    finally:
        AbstractDataLoader.__iter__ = batches
        Dataset.join = join
        Interaction.__getitem__ = rows
        Sampler.sample_by_key_ids = negatives


def _batches(loader: Any) -> Iterator[Any]:
    """Yield the batches of a loader without workers, its rows in the order in which its torch sampler draws them."""
    import numpy as np
    import torch

    # the seed for workers, which torch draws before anything else
    torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    order = np.fromiter(loader.sampler, dtype=np.int64)
    for start in range(0, len(order), loader.batch_size):
        yield loader.collate_fn(order[start : start + loader.batch_size])


def _rows(interaction: Any, index: Any, of_recbole: Callable[[Any, Any], Any]) -> Any:
    """Return rows of an Interaction by their numbers, which are an array or a tensor; any other index is RecBole's to read."""
    import numpy as np
    import torch

    if isinstance(index, np.ndarray):
        index = torch.as_tensor(index)
    if not isinstance(index, torch.Tensor) or index.dtype != torch.int64 or index.device.type != "cpu":
        return of_recbole(interaction, index)
    return type(interaction)({name: values[index] for name, values in interaction.interaction.items()})


def _negatives(sampler: Any, users: Any, num: int) -> Any:
    """Return what RecBole's `Sampler` draws for users int64 ``[B]``, `num` times all of them, that they have not met.

    Returns
    -------
    Items, int64 ``[num * B]``, from NumPy's global generator, as RecBole draws them.
    """
    import numpy as np
    import torch

    met, users = _met(sampler), np.tile(np.asarray(users), num)
    drawn, left = np.zeros(len(users), dtype=np.int64), np.arange(len(users))
    while len(left):
        drawn[left] = sampler.sampling(len(left))
        pairs = users[left] * sampler.item_num + drawn[left]
        left = left[met[np.searchsorted(met, pairs).clip(max=len(met) - 1)] == pairs]
    return torch.from_numpy(drawn)


def _met(sampler: Any) -> Any:
    """Return the pairs (user, item) of a sampler's sets as ascending numbers, made once for them."""
    from itertools import chain

    import numpy as np

    sets, found = getattr(sampler, "_recgen_met", (None, None))
    if sets is not sampler.used_ids:
        sets = sampler.used_ids
        sizes = np.fromiter(map(len, sets), dtype=np.int64, count=len(sets))
        items = np.fromiter(chain.from_iterable(sets), dtype=np.int64, count=sizes.sum())
        found = np.sort(np.repeat(np.arange(len(sets)), sizes) * sampler.item_num + items)
        sampler._recgen_met = sets, found
    return found


@contextmanager
def recbole_checkpoints() -> Iterator[None]:
    """Let RecBole read its own checkpoints inside this block, for example by `load_data_and_model`.

    Since torch 2.6 `torch.load` reads tensors alone unless told otherwise, and RecBole's checkpoints are pickles of its Config
    (RecBole issues 2212 and 2215, pull request 2219). A pickle can run any code: use this for files of your own only.
    """
    import torch

    original = torch.load

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, (str, Path)) and Path(file).is_dir():
            raise UserError(
                str(file),
                found="a folder, as our ranking models are saved, without RecBole's Config",
                expected="a checkpoint of RecBole's own models",
                todo="Build the model from its Config and call ranking_models.checkpoint.load(model, folder).",
            )
        return original(file, *args, **{"weights_only": False, **kwargs})

    torch.load = load  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = original


class _NoTensorboard:
    """Takes RecBole's TensorBoard calls and drops them."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None: ...

    def add_hparams(self, *args: Any, **kwargs: Any) -> None: ...


@contextmanager
def recbole_tensorboard(enabled: bool) -> Iterator[None]:
    """Let a RecBole trainer made inside this block write TensorBoard files, or not.

    RecBole 1.2.1 always makes ``log_tensorboard`` in the working directory; no key turns it off (its documentation names none;
    RecBole issue 994 is about where the folder is).
    """
    import recbole.trainer.trainer as module

    original = module.get_tensorboard
    if not enabled:
        module.get_tensorboard = lambda logger: _NoTensorboard()
    try:
        yield
    finally:
        module.get_tensorboard = original
