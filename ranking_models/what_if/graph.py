"""What-if scoring for LATTICE and MICRO: the effect of one replaced image on the item graphs, without rebuilding them.

A new image of item i changes, in the graph of raw features and in the graph of projected ones: i's own row; the rows
that i enters, leaves or stays in with another value; and, through those rows' degrees, every row that lists one of them. All
of it follows from one [requests, items] product of similarities and each row's k-th and next similarity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from ranking_models.base import ragged
from ranking_models.neighbours import Neighbours, inverse_root, pair_similarity, unit_rows
from ranking_models.sparse import SparsePattern
from ranking_models.what_if.base import ImageModel, WhatIf

MARGIN = 1e-5
"""Similarities this close to a row's threshold are computed again exactly: far above float32's error in a unit product."""


@dataclass(frozen=True)
class ChangedRows:
    """Rows of an item graph as they are if request ``request[c]``'s image is in.

    Attributes
    ----------
    request, row
        int64 ``[C]``, one pair per changed row.
    ids, similarity
        ``[C, k]``, the row's neighbours then.
    scale
        ``[C]``, 1 / sqrt of the row's degree then.
    """

    request: torch.Tensor
    row: torch.Tensor
    ids: torch.Tensor
    similarity: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class Edges:
    """Sparse changes of the item graph: for request b, entry (row, column) moves by `change`; all ``[P]``."""

    request: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    change: torch.Tensor


class GraphWhatIf:
    """One k-nearest-neighbour graph and how it answers to one item's new unit vector.

    Parameters
    ----------
    near
        The graph as it is.
    unit
        Unit rows ``[n_items, D]`` it was built from.
    """

    def __init__(self, near: Neighbours, unit: torch.Tensor) -> None:
        self.near, self.unit = near, unit
        self.n_items, self.k = near.ids.shape
        self.scale = inverse_root(near.similarity.sum(1))
        self._list_by_neighbour()
        last = self.k - 1
        self.last_id = near.ids[:, last]
        self.last_similarity = near.similarity[:, last] if last else torch.full_like(self.scale, torch.inf)

    def _list_by_neighbour(self) -> None:
        """Lay out, for each item, the rows that list it and where in them: edge = row * k + position."""
        ids = self.near.ids.clone()
        rows = torch.arange(self.n_items, device=ids.device)[:, None]
        ids[ids == rows] = (
            0  # an item's edge to itself is part of its own row; item 0 is padding and never asked for
        )
        flat = ids.reshape(-1)
        self.listed_edges = torch.argsort(flat, stable=True)
        self.listed_counts = torch.bincount(flat, minlength=self.n_items)
        self.listed_starts = self.listed_counts.cumsum(0) - self.listed_counts

    def listed(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (position in `items`, row, place in the row), each ``[P]``, of every edge from another row to the items."""
        which, edge = ragged(self.listed_starts[items], self.listed_counts[items], self.listed_edges)
        return which, edge // self.k, edge % self.k

    def changed_rows(self, items: torch.Tensor, unit: torch.Tensor, own_only: bool) -> ChangedRows:
        """Return the rows that differ if items ``[B]`` have unit vectors ``[B, D]``, each request on its own."""
        product = unit @ self.unit.T
        product[:, 0] = -torch.inf
        product.scatter_(1, items[:, None], -torch.inf)
        parts = [self._own_rows(items, unit, product)]
        if not own_only:
            request, row, place = self.listed(items)
            parts.append(self._listing_rows(items, unit, request, row, place))
            product[request, row] = -torch.inf
            parts.append(self._entered_rows(items, unit, product))
        requests, rows, ids, similarity = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return ChangedRows(requests, rows, ids, similarity, inverse_root(similarity.sum(1)))

    def _own_rows(
        self, items: torch.Tensor, unit: torch.Tensor, product: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The items' own rows: themselves and their k - 1 nearest others."""
        requests = torch.arange(len(items), device=items.device)
        own = pair_similarity(unit, unit, requests, requests)[:, None]
        if self.k == 1:
            return requests, items, items[:, None], own
        threshold = product.topk(self.k - 1).values[:, -1:]
        which, other = (product >= threshold - MARGIN).nonzero(as_tuple=True)
        similarity = pair_similarity(unit, self.unit, which, other)
        order = torch.argsort(
            similarity, descending=True, stable=True
        )  # `other` rises within a request: ties by id
        order = order[torch.argsort(which[order], stable=True)]
        starts = torch.searchsorted(which, requests)
        best = order[starts[:, None] + torch.arange(self.k - 1, device=items.device)]
        return (
            requests,
            items,
            torch.cat([items[:, None], other[best]], 1),
            torch.cat([own, similarity[best]], 1),
        )

    def _listing_rows(
        self,
        items: torch.Tensor,
        unit: torch.Tensor,
        request: torch.Tensor,
        row: torch.Tensor,
        place: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Rows that list the item: it stays with its new similarity, or the row's next neighbour steps in."""
        item, new = items[request], pair_similarity(unit, self.unit, request, row)
        stays = _better(new, item, self.near.next_similarity[row], self.near.next_id[row])
        neighbour = item.where(stays, self.near.next_id[row])
        return self._replaced(
            request, row, place, neighbour, new.where(stays, self.near.next_similarity[row])
        )

    def _entered_rows(
        self, items: torch.Tensor, unit: torch.Tensor, product: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Rows that did not list the item and now do, in place of their last neighbour."""
        request, row = (product > self.last_similarity - MARGIN).nonzero(as_tuple=True)
        new = pair_similarity(unit, self.unit, request, row)
        enters = _better(new, items[request], self.last_similarity[row], self.last_id[row])
        request, row, new = request[enters], row[enters], new[enters]
        return self._replaced(request, row, torch.full_like(row, self.k - 1), items[request], new)

    def _replaced(
        self,
        request: torch.Tensor,
        row: torch.Tensor,
        place: torch.Tensor,
        neighbour: torch.Tensor,
        value: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ids, similarity = self.near.ids[row], self.near.similarity[row]
        ids.scatter_(1, place[:, None], neighbour[:, None])
        similarity.scatter_(1, place[:, None], value[:, None])
        return request, row, ids, similarity

    def edges_of(self, changed: ChangedRows, only: torch.Tensor | None = None) -> Edges:
        """Return the differences of the normalised graph in the changed rows (or the chosen of them, by position)."""
        chosen = torch.arange(len(changed.row), device=changed.row.device) if only is None else only
        request, row, ids = changed.request[chosen], changed.row[chosen], changed.ids[chosen]
        new_scale = _Lookup(changed, self.n_items).scale(
            request[:, None].expand_as(ids), ids, self.scale[ids]
        )
        new = changed.similarity[chosen] * changed.scale[chosen, None] * new_scale
        old_ids = self.near.ids[row]
        old = self.near.similarity[row] * self.scale[row, None] * self.scale[old_ids]
        requests, rows = (x.repeat_interleave(self.k) for x in (request, row))
        columns = torch.cat([ids.reshape(-1), old_ids.reshape(-1)])
        return Edges(
            requests.repeat(2), rows.repeat(2), columns, torch.cat([new.reshape(-1), -old.reshape(-1)])
        )

    def ripple(self, changed: ChangedRows) -> Edges:
        """Return the differences in rows that list a changed row and are not changed themselves: its degree moved."""
        which, row, place = self.listed(changed.row)
        request = changed.request[which]
        untouched = ~_Lookup(changed, self.n_items).contains(request, row)
        which, row, place, request = which[untouched], row[untouched], place[untouched], request[untouched]
        column = changed.row[which]
        moved = changed.scale[which] - self.scale[column]
        return Edges(request, row, column, self.near.similarity[row, place] * self.scale[row] * moved)


class _Lookup:
    """Finds a (request, row) among changed rows."""

    def __init__(self, changed: ChangedRows, n_items: int) -> None:
        self.n_items, self.changed = n_items, changed
        self.keys, self.order = (changed.request * n_items + changed.row).sort()

    def _find(self, request: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key = request * self.n_items + row
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return place, self.keys[place] == key

    def contains(self, request: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return self._find(request, row)[1]

    def scale(self, request: torch.Tensor, row: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        place, found = self._find(request, row)
        return self.changed.scale[self.order[place]].where(found, otherwise)


def _better(
    value: torch.Tensor, item: torch.Tensor, than: torch.Tensor, than_item: torch.Tensor
) -> torch.Tensor:
    return (value > than) | ((value == than) & (item < than_item))


@dataclass(frozen=True)
class ItemGraphState:
    """What trained parameters and item graphs say of users and items; none of it changes with the model afterwards.

    Attributes
    ----------
    users
        float32 ``[n_users, d]``, LightGCN's.
    collaborative
        float32 ``[n_items, d]``, LightGCN's.
    views
        h_m float32 ``[n_items, d]`` of each modality.
    image
        Which of the views is the image's.
    item_embedding
        float32 ``[n_items, d]``, what the views propagate.
    graphs
        The image's item graphs with their weights in the mix: by raw features, and by projected ones.
    project
        Returns the unit rows ``[n, d]`` of projected raw image features ``[n, D]``.
    fuse
        Returns the fused view ``[n, d]`` of every modality's ``[n, d]``.
    """

    users: torch.Tensor
    collaborative: torch.Tensor
    views: list[torch.Tensor]
    image: int
    item_embedding: torch.Tensor
    graphs: list[tuple[float, GraphWhatIf]]
    project: Callable[[torch.Tensor], torch.Tensor]
    fuse: Callable[[list[torch.Tensor]], torch.Tensor]


class ItemGraphWhatIf(WhatIf):
    """The what-if scorer of models with learned item graphs, LATTICE and MICRO.

    ``exact`` is exact for graphs built by exhaustive search (``knn_exact_up_to``). ``own_row`` gives the item its new
    neighbours but leaves every other row, and so every other item's score and degree, as it was.

    Parameters
    ----------
    model
        Whose catalogue and histories the requests are about.
    state
        What it has learned.
    mode
        ``exact`` or ``own_row``.
    """

    def __init__(self, model: ImageModel, state: ItemGraphState, mode: str) -> None:
        super().__init__(model)
        self.state, self.own_only = state, mode == "own_row"
        self.items = state.collaborative + normalize(state.fuse(state.views))

    def _all_scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.state.users[users] @ self.items.T

    def _score(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        request, row, final = self._moved_items(items, embeddings, targets_only=True)
        scores = self.state.users.new_empty(len(users))
        scores[request] = (self.state.users[users[request]] * final).sum(1)
        return scores

    def _rank(self, users: torch.Tensor, items: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        request, row, final = self._moved_items(items, embeddings, targets_only=False)
        scores = self._all_scores(users)
        scores[request, row] = (self.state.users[users[request]] * final).sum(1)
        target = scores.gather(1, items[:, None]).squeeze(1)
        return self._count_above(scores, target, users, items)

    def _moved_items(
        self, items: torch.Tensor, embeddings: torch.Tensor, targets_only: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (request, item, final vector ``[T, d]``) of every item whose vector a request's image moves.

        With `targets_only`, of the requested items alone: T = B.
        """
        state = self.state
        units = unit_rows(embeddings), state.project(embeddings)
        parts = []
        for (weight, graph), unit in zip(state.graphs, units, strict=True):
            changed = graph.changed_rows(items, unit, self.own_only)
            only = (
                torch.arange(len(items), device=items.device) if targets_only else None
            )  # own rows come first
            parts.append((weight, graph.edges_of(changed, only)))
            if not (self.own_only or targets_only):
                parts.append((weight, graph.ripple(changed)))
        keys = torch.cat([edges.request * self.model.n_items + edges.row for _, edges in parts])
        columns = torch.cat([edges.column for _, edges in parts])
        changes = torch.cat([weight * edges.change for weight, edges in parts])
        rows, moved = _sum_by_key(keys, columns, changes, state.item_embedding)
        request, row = rows // self.model.n_items, rows % self.model.n_items
        views = [view[row] for view in state.views]
        views[state.image] = views[state.image] + moved
        return request, row, state.collaborative[row] + normalize(state.fuse(views))


def _sum_by_key(
    keys: torch.Tensor, columns: torch.Tensor, changes: torch.Tensor, dense: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct keys ``[T]`` in rising order and the sum of ``change * dense[column]`` of each ``[T, d]``."""
    keys, order = keys.sort(stable=True)
    distinct, counts = torch.unique_consecutive(keys, return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return distinct, SparsePattern(starts, columns[order], len(dense)).product(
        changes[order].to(dense.dtype), dense
    )
