"""One step of mean shift with every point looking at the cells around it only: exact for kernels of bounded support.

The data are sorted by cell, the cells of a row of the grid one after the other, so a point finds the closest in a few
runs of memory. No table of all cells is kept: where they are empty they cost nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from lib.cluster.backends.full import Shift
from lib.cluster.backends.threads import Threads

KINDS = {"flat": 0, "triangular": 1, "gaussian": 2}
AXES = 3  # points of fewer dimensions get axes of zeros in front
CELLS_PER_CUTOFF = 2  # cells in one cutoff: smaller ones hold fewer points in vain, and are more
MOST_LISTED = 8  # cells for each point whose places are kept: looking one up is then ten times as fast as searching it,
FEW_LISTED = 2**16  # and so many more
WIDER = 1 + 2**-10  # than that by so much, lest rounding put the cutoff one cell too far


def fits(data: Tensor, cutoff: float) -> bool:
    """Tell whether a grid of cells can be counted in 64 bits, and a place be told to far less than a cell."""
    spread = (data.amax(0) - data.amin(0)) / cutoff * CELLS_PER_CUTOFF + 1
    return data.shape[1] <= AXES and bool(spread.log2().sum() < 62 and spread.max() < 2**40)


def shift(data: Tensor, bandwidth: float, kernel: str, cutoff: float = 1.0) -> Shift:
    """Return a step against `data` [n, d], d at most 3, that leaves out what is more than `cutoff` bandwidths away.

    Raises ValueError for more dimensions, or for a grid of more cells than can be counted.
    """
    if not fits(data, cutoff * bandwidth):
        raise ValueError(f"cells are for up to {AXES} dimensions and 2^62 cells, got {list(data.shape)}")
    side = cutoff * bandwidth / CELLS_PER_CUTOFF * WIDER
    cells = sort(data, side)
    around = [
        range(-CELLS_PER_CUTOFF, CELLS_PER_CUTOFF + 1) if axis >= AXES - data.shape[1] else (0,)
        for axis in range(AXES - 1)
    ]
    rows = np.array(list(itertools.product(*around)), np.int64)
    table = np.ascontiguousarray(cells.table.T)
    given = (
        table,
        cells.ids,
        cells.starts,
        cells.low,
        side,
        cells.counts,
        rows,
        KINDS[kernel],
        float(bandwidth),
        float(cutoff),
    )
    threads = Threads()

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        padded_points = padded(points)
        moved, weight = np.empty_like(padded_points), np.empty(len(padded_points))
        threads.over_rows(_step, len(padded_points), padded_points, *given, moved, weight)
        moved = torch.from_numpy(moved[:, AXES - data.shape[1] :])
        return moved.to(points.device), torch.from_numpy(weight).to(points.device)

    return step


@dataclass(frozen=True)
class Cells:
    """Points sorted by cell: their `order` in the data, `table` [n, 3], and the `ids` [n] of their cells, ascending.

    `low` [3] is the corner of the first cell, `counts` [3] are the cells along each axis; ids go up along the last.
    `starts` tells where each cell begins in the table, and where the last one ends; it is empty where cells are many
    more than points.
    """

    order: np.ndarray
    table: np.ndarray
    ids: np.ndarray
    low: np.ndarray
    counts: np.ndarray
    starts: np.ndarray


def sort(data: Tensor, side: float) -> Cells:
    """Sort points [n, d], d at most 3, into cells of a side."""
    table = padded(data)
    low = table.min(0)
    counts = np.floor((table.max(0) - low) / side).astype(np.int64) + 1
    cells = np.floor((table - low) / side).astype(np.int64)
    ids = (cells[:, 0] * counts[1] + cells[:, 1]) * counts[2] + cells[:, 2]
    order = np.argsort(ids, kind="stable")
    listed = int(counts.prod()) if counts.prod() <= MOST_LISTED * len(table) + FEW_LISTED else -1
    starts = np.searchsorted(ids[order], np.arange(listed + 1))
    return Cells(order, table[order], ids[order], low, counts, starts)


def padded(points: Tensor) -> np.ndarray:
    """Return points [n, d] as [n, 3], with axes of zeros in front."""
    table = points.cpu().numpy()
    return np.concatenate([np.zeros((len(table), AXES - table.shape[1])), table], axis=1)


@numba.njit(fastmath=True, cache=True)
def _flat(x, y, z, data, first, last, limit):
    """Return weight and weighted sums of a run of data; no branch within, so that it runs in vectors."""
    total, sum_x, sum_y, sum_z = 0.0, 0.0, 0.0, 0.0
    for j in range(first, last):
        dx, dy, dz = x - data[0, j], y - data[1, j], z - data[2, j]
        w = 1.0 if dx * dx + dy * dy + dz * dz <= limit else 0.0
        total, sum_x, sum_y, sum_z = total + w, sum_x + w * data[0, j], sum_y + w * data[1, j], sum_z + w * data[2, j]
    return total, sum_x, sum_y, sum_z


@numba.njit(fastmath=True, cache=True)
def _flat_in_a_plane(y, z, data, first, last, limit):
    """As `_flat` where x is 0 throughout, which saves a third of the work."""
    total, sum_y, sum_z = 0.0, 0.0, 0.0
    for j in range(first, last):
        dy, dz = y - data[1, j], z - data[2, j]
        w = 1.0 if dy * dy + dz * dz <= limit else 0.0
        total, sum_y, sum_z = total + w, sum_y + w * data[1, j], sum_z + w * data[2, j]
    return total, 0.0, sum_y, sum_z


@numba.njit(fastmath=True, cache=True)
def _triangular(x, y, z, data, first, last, limit):
    total, sum_x, sum_y, sum_z = 0.0, 0.0, 0.0, 0.0
    for j in range(first, last):
        dx, dy, dz = x - data[0, j], y - data[1, j], z - data[2, j]
        w = max(0.0, 1.0 - np.sqrt((dx * dx + dy * dy + dz * dz) / limit))
        total, sum_x, sum_y, sum_z = total + w, sum_x + w * data[0, j], sum_y + w * data[1, j], sum_z + w * data[2, j]
    return total, sum_x, sum_y, sum_z


@numba.njit(fastmath=True, cache=True)
def _gaussian(x, y, z, data, first, last, limit, bandwidth):
    total, sum_x, sum_y, sum_z = 0.0, 0.0, 0.0, 0.0
    for j in range(first, last):
        dx, dy, dz = x - data[0, j], y - data[1, j], z - data[2, j]
        squared = dx * dx + dy * dy + dz * dz
        w = np.exp(-0.5 * squared / (bandwidth * bandwidth)) if squared <= limit else 0.0
        total, sum_x, sum_y, sum_z = total + w, sum_x + w * data[0, j], sum_y + w * data[1, j], sum_z + w * data[2, j]
    return total, sum_x, sum_y, sum_z


@numba.njit(cache=True)
def place(ids, starts, cell):
    """Return where a cell begins in sorted ids; np.searchsorted would take seconds to compile."""
    if len(starts):
        return starts[cell]
    first, last = 0, len(ids)
    while first < last:
        middle = (first + last) // 2
        if ids[middle] < cell:
            first = middle + 1
        else:
            last = middle
    return first


@numba.njit(cache=True)
def _beyond(x, corner, side):
    """Return the square of how far x is from a cell, less what rounding may add to it."""
    return max(max(corner - x, x - corner - side) - (WIDER - 1) * side, 0.0) ** 2


@numba.njit(nogil=True, cache=True)
def _step(start, stop, points, data, ids, starts, low, side, counts, rows, kind, bandwidth, cutoff, moved, weight):
    limit, plane = (cutoff * bandwidth) ** 2, not data[0].any()
    for i in range(start, stop):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        a = np.int64(np.floor((x - low[0]) / side))
        b = np.int64(np.floor((y - low[1]) / side))
        total, sum_x, sum_y, sum_z = 0.0, 0.0, 0.0, 0.0
        for row in rows:
            p, q = a + row[0], b + row[1]
            if p < 0 or q < 0 or p >= counts[0] or q >= counts[1]:
                continue
            left = limit - _beyond(x - low[0], p * side, side) - _beyond(y - low[1], q * side, side)
            if left < 0:
                continue
            base, reach = (p * counts[1] + q) * counts[2], np.sqrt(left) * WIDER
            begin, end = np.floor((z - low[2] - reach) / side), np.floor((z - low[2] + reach) / side)
            first = place(ids, starts, base + np.int64(min(max(begin, 0), counts[2])))
            last = place(ids, starts, base + np.int64(min(max(end + 1, 0), counts[2])))
            if kind == 0 and plane:
                found = _flat_in_a_plane(y, z, data, first, last, limit)
            elif kind == 0:
                found = _flat(x, y, z, data, first, last, limit)
            elif kind == 1:
                found = _triangular(x, y, z, data, first, last, limit)
            else:
                found = _gaussian(x, y, z, data, first, last, limit, bandwidth)
            total, sum_x, sum_y, sum_z = total + found[0], sum_x + found[1], sum_y + found[2], sum_z + found[3]
        weight[i] = total
        if total > 0:
            x, y, z = sum_x / total, sum_y / total, sum_z / total
        moved[i, 0], moved[i, 1], moved[i, 2] = x, y, z
