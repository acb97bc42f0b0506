"""The nearest neighbours, by looking at all of the data: exact, on any device, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.checks import check_count
from lib.cluster import check

MIB = 2**20
SPARE = 8  # candidates beyond those asked for: products lose digits, differences decide


@dataclass(frozen=True)
class Neighbours:
    """`distances` [m, k] to the nearest, in order, and their `indices` [m, k] int64 in the data.

    Where a search found fewer than k, the rest have index -1 and an infinite distance. `compared` [m] counts the rows
    that each query was compared with, where that is not all of them.
    """

    distances: Tensor
    indices: Tensor
    compared: Tensor | None = None


def knn(queries: Tensor, data: Tensor, n_neighbors: int, *, memory_limit: int = 512 * MIB) -> Neighbours:
    """Return the `n_neighbors` rows of data [n, d] nearest to each of queries [m, d], by Euclidean distance.

    Distances come from products of matrices, as many rows at a time as fit into `memory_limit` bytes; those of the
    nearest few are computed once more as differences, which keep their digits, and put in order by them; of equal ones
    the first of the data comes first. Raises TypeError and ValueError for tables that are not finite or of unlike
    widths, for more neighbours than data, and for a memory limit too small for one row.
    """
    queries, data = check.pair(queries, data)
    k = check.at_most("n_neighbors", check_count("n_neighbors", n_neighbors), len(data), "rows of the data")
    centre = data.mean(dim=0)
    data = data - centre
    squares = data.square().sum(dim=1)
    per_row = 2 * len(data) + min(k + SPARE, len(data)) * (data.shape[1] + 4)
    rows = check.rows_within(memory_limit, per_row * data.element_size())
    parts = [by_products(part - centre, data, squares, k) for part in queries.split(rows)]
    distances, indices = zip(*parts, strict=True)
    return Neighbours(torch.cat(distances), torch.cat(indices))


def ranked(queries: Tensor, data: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices [m, k] of the nearest of each query's candidates [m, c], by differences."""
    candidates = candidates.sort(dim=1).values
    distances = (data[candidates] - queries[:, None]).square().sum(dim=2).sqrt()
    distances, order = distances.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order[:, :k])


def by_products(queries: Tensor, data: Tensor, squares: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices [m, k] of the nearest rows of data [n, d], whose `squares` [n] are known."""
    apart = torch.addmm(squares, queries, data.T, alpha=-2)  # less the queries' own squares: the order is the same
    return ranked(queries, data, apart.topk(min(k + SPARE, len(data)), dim=1, largest=False).indices, k)
