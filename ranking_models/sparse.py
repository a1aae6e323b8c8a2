"""Sparse products with a fixed pattern: the pattern and its transpose are laid out once and used for many batches."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

EDGES_PER_CHUNK = 1 << 20
"""Edges whose d-wide vectors are held at once where a sum runs over edges: bounds memory, not the result."""

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning)


class SparsePattern:
    """Where the non-zeros of an ``[n_rows, n_columns]`` matrix are.

    Parameters
    ----------
    row_starts, columns
        int64 CSR row pointers ``[n_rows + 1]`` and column ids ``[nnz]``; a column may occur twice in a row (values add).
    n_columns
        Number of columns.
    """

    def __init__(self, row_starts: torch.Tensor, columns: torch.Tensor, n_columns: int) -> None:
        self.row_starts, self.columns = row_starts, columns
        self.n_rows, self.n_columns = len(row_starts) - 1, n_columns

    @cached_property
    def rows(self) -> torch.Tensor:
        """Row id of each edge ``[nnz]``."""
        counts = self.row_starts.diff()
        return torch.repeat_interleave(torch.arange(self.n_rows, device=counts.device), counts)

    @cached_property
    def order(self) -> torch.Tensor:
        """Positions ``[nnz]`` of the edges sorted by column, and by row within a column."""
        return torch.argsort(self.columns, stable=True)

    @cached_property
    def transposed(self) -> SparsePattern:
        """The transpose's pattern; its edges are this pattern's edges in `order`."""
        counts = torch.bincount(self.columns, minlength=self.n_columns)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return SparsePattern(starts, self.rows[self.order], self.n_rows)

    def product(self, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Return the matrix with these values ``[nnz]`` times ``dense [n_columns, d]``; full precision with `enable_amp` too."""
        with torch.autocast(
            dense.device.type, enabled=False
        ):  # there is no sparse product in bfloat16 on a CPU
            shape = (self.n_rows, self.n_columns)
            matrix = torch.sparse_csr_tensor(self.row_starts, self.columns, values, shape)
            return matrix @ dense

    def transposed_product(self, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Return the transpose of the matrix with these values ``[nnz]`` times ``dense [n_rows, d]``."""
        return self.transposed.product(values[self.order], dense)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dense: torch.Tensor, pattern: SparsePattern) -> torch.Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, dense)
        return pattern.product(values, dense)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        values, dense = ctx.saved_tensors
        (grad,), pattern = grads, ctx.pattern
        grad = grad.contiguous()
        to_values = (
            edge_products(grad, dense, pattern.rows, pattern.columns) if ctx.needs_input_grad[0] else None
        )
        to_dense = pattern.transposed_product(values, grad) if ctx.needs_input_grad[1] else None
        return to_values, to_dense, None


def propagate(pattern: SparsePattern, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """Sparse times dense, differentiable in the values ``[nnz]`` and in ``dense [n_columns, d]``; ``[n_rows, d]``."""
    return _Propagate.apply(values, dense, pattern)  # type: ignore[no-untyped-call]


def light_gcn(
    pattern: SparsePattern,
    values: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    n_layers: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return LightGCN's users ``[n_users, d]`` and items ``[n_items, d]``: the mean of the embeddings and of every layer.

    Parameters
    ----------
    pattern, values
        The normalised graph over users, then items, with values ``[nnz]``.
    users, items
        Embeddings ``[n_users, d]`` and ``[n_items, d]``.
    n_layers
        How often they are propagated.
    """
    layers = [torch.cat([users, items])]
    for _ in range(n_layers):
        layers.append(propagate(pattern, values.to(users.dtype), layers[-1]))
    mean = torch.stack(layers).mean(0)
    return mean[: len(users)], mean[len(users) :]


def edge_products(
    left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Return the dot product of ``left[rows]`` and ``right[columns]`` per edge ``[nnz]``, in chunks."""
    chunks = zip(rows.split(EDGES_PER_CHUNK), columns.split(EDGES_PER_CHUNK), strict=True)
    return torch.cat([(left[r] * right[c]).sum(1) for r, c in chunks])


class _EdgeSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: torch.Tensor, pattern: SparsePattern) -> torch.Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(unit)
        return edge_products(unit, unit, pattern.rows, pattern.columns)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (unit,), (grad,), pattern = ctx.saved_tensors, grads, ctx.pattern
        grad = grad.contiguous()
        return pattern.product(grad, unit) + pattern.transposed_product(grad, unit), None


def edge_similarity(pattern: SparsePattern, unit: torch.Tensor) -> torch.Tensor:
    """Return the dot products of the end points' rows of ``unit [n, d]`` per edge ``[nnz]``, differentiable."""
    return _EdgeSimilarity.apply(unit, pattern)  # type: ignore[no-untyped-call]


def interaction_graph(interactions: sp.coo_matrix, norm: str) -> tuple[SparsePattern, torch.Tensor]:
    """Return pattern and values of the normalised user-item graph over users, then items.

    ``row_self`` is the reference's D^-1 (A + I), row-normalised with self-loops; ``sym`` is LightGCN's D^-1/2 A D^-1/2.
    """
    n_users, n_items = interactions.shape
    binary = sp.csr_matrix((np.ones(interactions.nnz), interactions.nonzero()), shape=(n_users, n_items))
    binary.data[:] = 1  # a repeated interaction is one edge
    graph = sp.bmat([[None, binary], [binary.T, None]], format="csr")
    if norm == "row_self":
        graph = (graph + sp.identity(n_users + n_items, format="csr")).tocsr()
        graph = sp.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph
    else:
        degree = np.asarray(graph.sum(1)).ravel()
        scale = sp.diags(np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0))
        graph = scale @ graph @ scale
    graph = graph.tocsr()
    graph.sort_indices()
    starts, columns = (
        torch.from_numpy(graph.indptr.astype(np.int64)),
        torch.from_numpy(graph.indices.astype(np.int64)),
    )
    return SparsePattern(starts, columns, n_users + n_items), torch.from_numpy(graph.data.astype(np.float32))
