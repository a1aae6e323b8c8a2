"""Item-item nearest neighbours by cosine, the same whatever the batch: MICRO's S in section 4.3 of its specification.

Which items are neighbours is decided by one number per pair, `pair_similarity`, with ties broken by item id. Items
with the very same features (duplicate images, items without one) tie exactly, so they are searched for once and
listed in the order of their ids; a what-if score can then agree with a rebuilt graph even among duplicates.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray

from recgen.features.retrieval import searchable

SLACK = 6
"""Candidates searched for beyond those kept, so that float32 search cannot lose one that exact similarity keeps."""
PAIRS_PER_CHUNK = 1 << 15
CELLS_PER_CHUNK = 1 << 22
ROWS_HASHED = 1 << 14
"""Rows whose words are held as 64-bit numbers at once: all of them would take twice the features' own memory."""
_GRAPHS_KEPT = 4
"""Graphs that `remembered_items` keeps: those of two modalities, twice."""


@dataclass(frozen=True)
class Neighbours:
    """Each item's nearest items, itself first.

    Attributes
    ----------
    ids, similarity
        ``[n_items, k]``; column 0 is the item itself, then the k - 1 most similar others in falling order. The row of
        padding is zeros with similarity 0.
    next_id, next_similarity
        ``[n_items]``, the one that would step in if a neighbour left; -1 and -inf if there is none.
    """

    ids: torch.Tensor
    similarity: torch.Tensor
    next_id: torch.Tensor
    next_similarity: torch.Tensor


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Return float32 rows of length one ``[n, D]``; a zero row stays zero. Rounded from float64: same row, same bits."""
    chunks = []
    for rows in features.split(max(CELLS_PER_CHUNK // features.shape[1], 1)):
        exact = rows.double()
        length = exact.norm(dim=1, keepdim=True)
        chunks.append((exact / length.where(length > 0, 1)).float())
    return torch.cat(chunks)


def pair_similarity(
    left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Return float32 cosines ``[P]`` of ``left[rows]`` and ``right[columns]``, both unit rows, rounded from float64."""
    chunks = zip(rows.split(PAIRS_PER_CHUNK), columns.split(PAIRS_PER_CHUNK), strict=True)
    return torch.cat([(left[r].double() * right[c].double()).sum(1).float() for r, c in chunks])


_remembered: OrderedDict[tuple[object, ...], Neighbours] = OrderedDict()


def remembered_items(unit: torch.Tensor, k: int, exact_up_to: int, probes: int) -> Neighbours:
    """Return what `nearest_items` does; for the same rows as before, without a search.

    A run builds many models on the same features: reward, judge, every retraining, every time one is read back. Rows are told
    apart by a digest of their contents.
    """
    digest = blake2b(unit.detach().cpu().contiguous().numpy().data, digest_size=16).digest()
    key = (digest, tuple(unit.shape), str(unit.device), k, exact_up_to, probes)
    if key in _remembered:
        _remembered.move_to_end(key)
    else:
        _remembered[key] = nearest_items(unit, k, exact_up_to, probes)
    while len(_remembered) > _GRAPHS_KEPT:
        _remembered.popitem(last=False)
    kept = _remembered[key]
    return Neighbours(*(getattr(kept, each.name).clone() for each in fields(kept)))


def nearest_items(unit: torch.Tensor, k: int, exact_up_to: int, probes: int) -> Neighbours:
    """Return the k nearest items (itself included) of every item.

    Parameters
    ----------
    unit
        float32 unit rows ``[n_items, D]``; row 0 is padding and neighbour of nothing.
    k
        Neighbours kept; fewer where the catalogue is smaller.
    exact_up_to
        Up to this many distinct rows the search is exhaustive; above, an inverted file of which `probes` lists are read.
    probes
        Lists read per query above `exact_up_to`.
    """
    items = unit[1:]
    n_items = len(items)
    k = min(k, n_items)
    group_of, first = _groups(items)
    distinct = items[first]
    found = _search(distinct, min(k + 1 + SLACK, len(distinct)), exact_up_to, probes)
    members = _members(group_of, len(first), k + 1)
    ids, similarity = [], []
    width = found.shape[1] * members.shape[1]
    for rows in torch.arange(n_items, device=unit.device).split(max(CELLS_PER_CHUNK // width, 1)):
        chunk = _ranked_others(rows, found[group_of[rows]], members, distinct, group_of, k)
        ids.append(chunk[0])
        similarity.append(chunk[1])
    return _with_padding(items, torch.cat(ids), torch.cat(similarity), k)


def _groups(items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each item's group of identical rows ``[n]`` and each group's first item ``[G]``."""
    words = items.cpu().contiguous().numpy().view(np.uint32)
    mixers = np.random.default_rng(0).integers(1, 2**63, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
    keys = np.zeros(len(words), dtype=np.uint64)
    for start in range(0, len(words), ROWS_HASHED):
        _hash_rows(words[start : start + ROWS_HASHED], mixers, keys[start : start + ROWS_HASHED])
    _, first, group_of = np.unique(keys, return_index=True, return_inverse=True)
    return torch.from_numpy(group_of).to(items.device), torch.from_numpy(first).to(items.device)


def _hash_rows(words: NDArray[np.uint32], mixers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
    """Mix rows of words ``[n, D]`` into their keys ``[n]``, column by column, in place."""
    for column, mixer in zip(words.T.astype(np.uint64), mixers, strict=True):
        keys ^= (column + np.uint64(1)) * mixer
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)


def _members(group_of: torch.Tensor, n_groups: int, at_most: int) -> torch.Tensor:
    """Return each group's lowest item rows ``[G, m]``, -1 where it has fewer; m is at most `at_most`."""
    order = torch.argsort(group_of, stable=True)
    sizes = torch.bincount(group_of, minlength=n_groups)
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[group_of[order]]
    width = min(int(sizes.max()), at_most)
    members = torch.full((n_groups, width), -1, device=order.device)
    keep = place < width
    members[group_of[order][keep], place[keep]] = order[keep]
    return members


def _search(distinct: torch.Tensor, width: int, exact_up_to: int, probes: int) -> torch.Tensor:
    """Return candidate groups ``[G, width]``, most similar first, -1 where an inverted file found too few."""
    exact = len(distinct) <= exact_up_to
    if exact and distinct.is_cuda:
        return _exhaustive(distinct, width)
    vectors = distinct.cpu().numpy()
    index = searchable(vectors, exact, 4, probes)
    return torch.from_numpy(index.search(vectors, width)[1]).to(distinct.device)


def _exhaustive(distinct: torch.Tensor, width: int) -> torch.Tensor:
    """Return what `_search` does by matrix products, the faster way on a GPU."""
    chunk = max(CELLS_PER_CHUNK // len(distinct), 1)
    return torch.cat([(rows @ distinct.T).topk(width).indices for rows in distinct.split(chunk)])


def _ranked_others(
    rows: torch.Tensor,
    found: torch.Tensor,
    members: torch.Tensor,
    distinct: torch.Tensor,
    group_of: torch.Tensor,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best other items ``[n, k]`` of `rows` among the members of the groups `found`, and similarities."""
    n, width = found.shape
    columns = found.clamp(min=0).reshape(-1)
    own = group_of[rows].repeat_interleave(width)
    similarity = pair_similarity(distinct, distinct, own, columns).masked_fill(
        found.reshape(-1) < 0, -torch.inf
    )
    ids = members[columns].reshape(n, -1)
    similarity = similarity.repeat_interleave(members.shape[1]).reshape(n, -1)
    similarity = similarity.masked_fill((ids < 0) | (ids == rows[:, None]), -torch.inf)
    ids, by_id = ids.sort(dim=1, stable=True)
    similarity, by_similarity = similarity.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    ids = ids.gather(1, by_similarity).masked_fill(similarity == -torch.inf, -1)
    return ids[:, :k], similarity[:, :k]


def _with_padding(items: torch.Tensor, others: torch.Tensor, similarity: torch.Tensor, k: int) -> Neighbours:
    """Put the item itself first, shift rows to item ids, add the padding row, and split off the next neighbour."""
    n = len(items)
    own = torch.arange(n, device=items.device)
    kept, weight = others[:, : k - 1], similarity[:, : k - 1]
    missing = (
        kept < 0
    )  # an inverted file may find too few: such an edge points to the item itself with weight 0
    ids = torch.cat([own[:, None], kept.where(~missing, own[:, None])], 1) + 1
    weights = torch.cat([pair_similarity(items, items, own, own)[:, None], weight.masked_fill(missing, 0)], 1)
    pad = torch.nn.functional.pad
    return Neighbours(
        pad(ids, (0, 0, 1, 0)),
        pad(weights, (0, 0, 1, 0)),
        pad(others[:, k - 1] + 1, (1, 0)).masked_fill(pad(others[:, k - 1], (1, 0), value=-1) < 0, -1),
        pad(similarity[:, k - 1], (1, 0), value=-torch.inf),
    )


def inverse_root(degree: torch.Tensor) -> torch.Tensor:
    """Return 1 / sqrt(d) ``[n]``, 0 where the degree is not positive (the reference has NaN there)."""
    positive = degree > 0
    return degree.where(positive, 1).rsqrt().where(positive, 0)


def normalise(ids: torch.Tensor, similarity: torch.Tensor) -> torch.Tensor:
    """Return weights s_ij / sqrt(d_i d_j) ``[n, k]`` with d the row sums, differentiable in `similarity` ``[n, k]``."""
    scale = inverse_root(similarity.sum(1))
    return similarity * scale[:, None] * scale[ids]
