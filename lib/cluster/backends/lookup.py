"""The nearest of quantised vectors by adding up entries of a query's own table, a lookup for each byte of a code.

Codes lie piece by piece, so that a piece of many vectors is looked up by one instruction; the sums of a block stay in
the processor's cache.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from lib.cluster.backends.threads import Threads

BLOCK = 1024


def search(
    tables: Tensor, codes: Tensor, more: Tensor, starts: Tensor, stops: Tensor, apart: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the k smallest sums [q, k] of each query, in order, and where their codes are [q, k], -1 for none.

    The sum of query i for code j is that of `tables` [q, m, 256] at `codes` [m, n], of `more[j]`, and of `apart[i, p]`.
    Looked at are codes from `starts[i, p]` to `stops[i, p]`, for each of p ranges.
    """
    sums = tables.new_full((len(tables), k), torch.inf)
    places = torch.full(sums.shape, -1)
    given = (table.contiguous().numpy() for table in (tables, codes, more, starts, stops, apart, sums, places))
    Threads().over_rows(_search, len(tables), *given, part=1)
    return sums, places


@numba.njit(nogil=True, cache=True)
def _insert(sums, places, total, place):
    """Put a sum among those in order; the largest falls out."""
    k = len(sums) - 1
    while k > 0 and sums[k - 1] > total:
        sums[k], places[k] = sums[k - 1], places[k - 1]
        k -= 1
    sums[k], places[k] = total, place


@numba.njit(nogil=True, cache=True)
def _search(first, last, tables, codes, more, starts, stops, apart, sums, places):
    totals = np.empty(BLOCK, tables.dtype)
    for i in range(first, last):
        worst = sums[i, -1]
        for p in range(starts.shape[1]):
            for begin in range(starts[i, p], stops[i, p], BLOCK):
                count = min(BLOCK, stops[i, p] - begin)
                for j in range(count):
                    totals[j] = more[begin + j] + apart[i, p]
                for m in range(len(codes)):
                    table, piece = tables[i, m], codes[m, begin : begin + count]
                    for j in range(count):
                        totals[j] += table[piece[j]]
                for j in range(count):
                    if totals[j] < worst:
                        _insert(sums[i], places[i], totals[j], begin + j)
                        worst = sums[i, -1]
