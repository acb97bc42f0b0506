"""Dense points joined with those near them, every point looking at the cells around it only: DBSCAN in few dimensions.

A union-find structure keeps of each point a parent, a point of its cluster nearer to the first one (Tarjan 1975).
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from lib.cluster.backends import cells
from lib.cluster.backends.threads import Threads


def by_cells(data: Tensor, eps: float, min_samples: int) -> tuple[Tensor, Tensor]:
    """Return of each point of data [n, d], d at most 3, its cluster's first core point, n for noise; and the core."""
    n, threads, side = len(data), Threads(), eps * cells.WIDER
    sorted_ = cells.sort(data, side)
    axes = [range(-1, 2) if axis >= cells.AXES - data.shape[1] else (0,) for axis in range(cells.AXES - 1)]
    rows = np.array([(a, b) for a in axes[0] for b in axes[1]], np.int64)
    runs = np.empty((n, len(rows), 2), np.int64)
    threads.over_rows(
        _runs, n, sorted_.table, sorted_.ids, sorted_.starts, sorted_.low, side, sorted_.counts, rows, runs
    )
    core = np.empty(n, np.bool_)
    threads.over_rows(_core, n, sorted_.table, runs, eps * eps, min_samples, core)
    roots = np.where(core, sorted_.order, n)
    parents = np.arange(n)
    _join(sorted_.table, runs, eps * eps, core, parents, sorted_.order)
    _borders(sorted_.table, runs, eps * eps, core, parents, sorted_.order, roots)
    found, dense = np.empty(n, np.int64), np.empty(n, np.bool_)
    found[sorted_.order], dense[sorted_.order] = roots, core
    return torch.from_numpy(found), torch.from_numpy(dense)


@numba.njit(nogil=True, cache=True)
def _runs(start, stop, table, ids, starts, low, side, counts, rows, runs):
    """Find where the cells around each point begin and end, a run for each row of them."""
    for i in range(start, stop):
        if i > start and ids[i] == ids[i - 1]:
            runs[i] = runs[i - 1]
            continue
        a = np.int64(np.floor((table[i, 0] - low[0]) / side))
        b = np.int64(np.floor((table[i, 1] - low[1]) / side))
        c = np.int64(np.floor((table[i, 2] - low[2]) / side))
        for r in range(len(rows)):
            p, q = a + rows[r, 0], b + rows[r, 1]
            if p < 0 or q < 0 or p >= counts[0] or q >= counts[1]:
                runs[i, r] = 0
                continue
            base = (p * counts[1] + q) * counts[2]
            runs[i, r, 0] = cells.place(ids, starts, base + max(c - 1, 0))
            runs[i, r, 1] = cells.place(ids, starts, base + min(c + 1, counts[2] - 1) + 1)


@numba.njit(cache=True, inline="always")
def _near(table, i, j, limit):
    x, y, z = table[i, 0] - table[j, 0], table[i, 1] - table[j, 1], table[i, 2] - table[j, 2]
    return x * x + y * y + z * z <= limit


@numba.njit(nogil=True, cache=True)
def _core(start, stop, table, runs, limit, min_samples, core):
    for i in range(start, stop):
        count = 0
        for r in range(runs.shape[1]):
            for j in range(runs[i, r, 0], runs[i, r, 1]):
                count += _near(table, i, j, limit)
            if count >= min_samples:
                break
        core[i] = count >= min_samples


@numba.njit(cache=True)
def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@numba.njit(cache=True)
def _join(table, runs, limit, core, parents, order):
    """Give core points near each other one root, that of them which comes first in the data."""
    for i in range(len(table)):
        if not core[i]:
            continue
        ours = _root(parents, i)
        for r in range(runs.shape[1]):
            for j in range(runs[i, r, 0], min(runs[i, r, 1], i)):
                if core[j] and parents[j] != ours and _near(table, i, j, limit):
                    theirs = _root(parents, j)
                    if order[theirs] < order[ours]:
                        ours, theirs = theirs, ours
                    parents[theirs] = ours


@numba.njit(cache=True)
def _borders(table, runs, limit, core, parents, order, roots):
    """Fill in the first core point of each point's cluster; for border points the smallest of those near them."""
    for i in range(len(table)):
        if core[i]:
            roots[i] = order[_root(parents, i)]
            continue
        for r in range(runs.shape[1]):
            for j in range(runs[i, r, 0], runs[i, r, 1]):
                if core[j] and _near(table, i, j, limit):
                    roots[i] = min(roots[i], order[_root(parents, j)])
