"""Item features by item token: read, aligned to RecBole's item ids, missing rows filled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from recgen.core.errors import UserError
from recgen.core.io import read_ids


def load_item_features(config: Any, dataset: Any) -> dict[str, torch.Tensor]:
    """Return the item features a RecBole config names.

    Two ways in: our key ``item_features: {modality: PATH.safetensors}`` (tensor "features" ``[n, D]``; item tokens in
    ``PATH.ids.txt``, one per line) or ``PATH.npy`` (the array itself), or RecBole's own ``preload_weight``, where the value
    field's name is the modality.

    Returns
    -------
    dict
        Modality -> float32 ``[n_items, D]`` in RecBole's item ids. Row 0 (padding) is zero; an item without a row has the
        mean of the items that have one.
    """
    named = config["item_features"]
    if named:
        return {modality: _from_file(Path(path), dataset) for modality, path in named.items()}
    if config["preload_weight"]:
        return {value: _from_preload(dataset, field) for field, value in config["preload_weight"].items()}
    raise UserError(
        "key 'item_features'",
        found="neither it nor 'preload_weight'",
        expected="a file of features per modality",
        todo="Set item_features: {image: PATH.safetensors, text: PATH.safetensors}.",
    )


def _from_file(path: Path, dataset: Any) -> torch.Tensor:
    features, tokens = read_features(path)
    ids = dataset.field2token_id[dataset.iid_field]
    rows = [row for row, token in enumerate(tokens) if token in ids]
    if not rows:
        raise UserError(
            f"{path.with_suffix('.ids.txt')}",
            found=f"no item of the dataset among its {len(tokens)} ids",
            expected="the item tokens of the .inter file",
        )
    items = torch.tensor([ids[tokens[row]] for row in rows])
    return align(features[torch.tensor(rows)], items, dataset.item_num)


def read_features(path: Path) -> tuple[torch.Tensor, list[str]]:
    """Read float32 ``[n, D]`` features and their n item tokens; refuse what does not fit together."""
    ids_path = path.with_suffix(".ids.txt")
    for needed in (path, ids_path):
        if not needed.is_file():
            raise UserError(f"{needed}", found="no such file", expected="item features and their ids")
    features = _array(path) if path.suffix == ".npy" else _tensor(path)
    tokens = read_ids(ids_path)
    if len(tokens) != len(features):
        raise UserError(
            f"{ids_path}", found=f"{len(tokens)} ids", expected=f"{len(features)}, one per row of {path.name}"
        )
    finite = features.isfinite().all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise UserError(
            f"{path}", found=f"a value that is not finite for item {tokens[row]!r}", expected="numbers"
        )
    return features, tokens


def _tensor(path: Path) -> torch.Tensor:
    tensors = load_file(path)
    if "features" not in tensors or tensors["features"].dim() != 2:
        raise UserError(
            f"{path}", found=f"tensors {sorted(tensors)}", expected="one tensor 'features' [items, D]"
        )
    return tensors["features"].float()


def _array(path: Path) -> torch.Tensor:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path}", found=str(error), expected="a NumPy array [items, D]") from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise UserError(f"{path}", found=f"{rows.dtype} {rows.shape}", expected="numbers [items, D]")
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def load_image_redraws(config: Any, dataset: Any, images: torch.Tensor) -> torch.Tensor | None:
    """Return embeddings of further drawings of the items' images that training shows too, or None where the config names none.

    The key ``image_redraws: PATH.safetensors`` names them like a modality's features, but for an item's token standing there R
    times, once a drawing.

    Parameters
    ----------
    config, dataset
        RecBole's.
    images
        The items' own image features, float32 ``[n_items, D]``: what is shown of an item that has fewer than R.

    Returns
    -------
    float32 ``[n_items, R, D]`` in RecBole's item ids, or None.
    """
    if not config["image_redraws"]:
        return None
    path = Path(config["image_redraws"])
    features, tokens = read_features(path)
    if features.shape[1] != images.shape[1]:
        raise UserError(
            f"{path}",
            found=f"embeddings of width {features.shape[1]}",
            expected=f"{images.shape[1]}, the width of the images' own",
        )
    ids = dataset.field2token_id[dataset.iid_field]
    rows: dict[int, list[int]] = {}
    for row, token in enumerate(tokens):
        if token in ids:
            rows.setdefault(ids[token], []).append(row)
    count = max(map(len, rows.values()), default=0)
    table = images[:, None].repeat(1, count, 1)
    for item, mine in rows.items():
        table[item, : len(mine)] = features[mine]
    return table


def _from_preload(dataset: Any, field: str) -> torch.Tensor:
    matrix = torch.as_tensor(np.asarray(dataset.get_preload_weight(field)), dtype=torch.float32)
    if matrix.dim() != 2 or len(matrix) != dataset.item_num:
        raise UserError(
            f"preload_weight field {field!r}",
            found=f"a matrix of shape {tuple(matrix.shape)}",
            expected=f"[{dataset.item_num}, D], one row per item",
            todo=f"Set alias_of_item_id: [{field}].",  # without it RecBole gives the rows ids of their own (issue 1040)
        )
    present = matrix.ne(0).any(1).nonzero()[:, 0]
    return align(matrix[present], present, dataset.item_num)


def align(features: torch.Tensor, items: torch.Tensor, n_items: int) -> torch.Tensor:
    """Scatter rows ``[n, D]`` to item ids ``[n]``; other items get the rows' mean, row 0 zeros. Returns ``[n_items, D]``."""
    table = features.mean(0).expand(n_items, -1).clone()
    table[items] = features
    table[0] = 0
    return table


def digest(values: torch.Tensor | Sequence[str]) -> str:
    """Return a short hash of a tensor's bytes or of a list of tokens: what a saved model was trained on."""
    hasher = hashlib.blake2b(digest_size=12)
    if isinstance(values, torch.Tensor):
        hasher.update(values.detach().cpu().contiguous().numpy().tobytes())
    else:
        hasher.update("\x1f".join(values).encode())
    return hasher.hexdigest()
