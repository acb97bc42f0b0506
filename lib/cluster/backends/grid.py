"""One step of Gaussian mean shift in a time that does not depend on how dense the data are.

The data are spread over a regular grid, the grid is convolved with the Gaussian, and a point reads what it needs from
the nodes around it. Both ways go through Lagrange polynomials of six nodes, as in particle-mesh methods: as the
Gaussian is smooth, a grid of a few nodes a bandwidth is enough for five digits (Greengard and Strain 1991 expand it in
cells for the same reason).
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from lib.cluster import kernels
from lib.cluster.backends.cells import AXES, padded
from lib.cluster.backends.full import Shift
from lib.cluster.backends.threads import Threads

ORDER = 6
SPACING = (0.15, 0.15, 0.25)  # bandwidths between nodes, in 1, 2 and 3 dimensions: there nodes are expensive
MARGIN = ORDER // 2 + 1  # nodes around the data
BYTES_PER_NODE = 72  # while the grid is made: the counts, four fields, and these once more side by side


def count_nodes(data: Tensor, bandwidth: float) -> int:
    """Return how many nodes a grid over the data would have."""
    spread = (data.amax(0) - data.amin(0)) / (SPACING[data.shape[1] - 1] * bandwidth)
    return int(torch.prod(spread.ceil() + 1 + 2 * MARGIN))


def shift(data: Tensor, bandwidth: float, spacing: float | None = None) -> Shift:
    """Return a step against `data` [n, d], d at most 3, from a grid with `spacing` bandwidths from node to node.

    The error falls with the sixth power of the spacing; making the grid takes 72 bytes a node. Raises ValueError
    for more dimensions.
    """
    d = data.shape[1]
    if d > AXES:
        raise ValueError(f"a grid is for up to {AXES} dimensions, got {list(data.shape)}")
    spacing = spacing or SPACING[d - 1]
    low = np.zeros(AXES)
    low[AXES - d :] = data.amin(0).cpu().numpy()
    real = np.arange(AXES) >= AXES - d
    table = (padded(data) - low) / (spacing * bandwidth) + MARGIN * real
    sizes = np.where(real, np.ceil(table.max(0)) + MARGIN + 1, 1).astype(np.int64)
    grid, width = np.zeros(sizes), np.where(real, ORDER, 1)
    _spread(table, width, grid)
    fields, threads = _convolved(grid, real, spacing, kernels.cutoff("gaussian", len(data))), Threads()

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        places = (padded(points) - low) / (spacing * bandwidth) + MARGIN * real
        read = np.empty((len(places), 1 + AXES))
        threads.over_rows(_read, len(places), places, width, fields, read)
        read = torch.from_numpy(read).to(points.device)
        weight, gradient = read[:, 0], read[:, 1 + AXES - d :]
        seen = weight > 0.5  # a point of the data sees itself, and uphill it sees more
        moved = torch.where(seen[:, None], points + bandwidth * gradient / weight[:, None], points)
        return moved, weight.clamp(min=0)

    return step


def _convolved(grid: np.ndarray, real: np.ndarray, spacing: float, cutoff: float) -> np.ndarray:
    """Return the density at each node, and its gradient, places being in bandwidths: [..., 1 + axes]."""
    t = np.arange(-math.ceil(cutoff / spacing), math.ceil(cutoff / spacing) + 1) * spacing
    gaussian = np.exp(-0.5 * t**2)
    fields = {0: grid}  # 0 for the density, k + 1 for its gradient along axis k, by bandwidths
    for axis in np.flatnonzero(real):
        gradient = correlate1d(fields[0], t * gaussian, axis, mode="constant")
        fields = {k: correlate1d(values, gaussian, axis, mode="constant") for k, values in fields.items()}
        fields[axis + 1] = gradient
    out = np.zeros((*grid.shape, 1 + AXES))
    for k, values in fields.items():
        out[..., k] = values
    return out


@numba.njit(cache=True)
def _weights(place, weights):
    """Fill in Lagrange's polynomials of the nodes around a place, in [2, 3) of nodes 0 to 5."""
    for i in range(ORDER):
        weights[i] = 1.0
        for j in range(ORDER):
            if i != j:
                weights[i] *= (place - j) / (i - j)


@numba.njit(cache=True)
def _corner(point, width, size, corner, weights):
    for k in range(AXES):
        if width[k] > 1:
            corner[k] = min(max(np.int64(np.floor(point[k])) - ORDER // 2 + 1, 0), size[k] - ORDER)
            _weights(point[k] - corner[k], weights[k])
        else:
            corner[k] = 0
            weights[k, 0] = 1.0


@numba.njit(cache=True)
def _spread(table, width, grid):
    corner, weights = np.empty(AXES, np.int64), np.empty((AXES, ORDER))
    for i in range(len(table)):
        _corner(table[i], width, grid.shape, corner, weights)
        for a in range(width[0]):
            for b in range(width[1]):
                w = weights[0, a] * weights[1, b]
                for c in range(width[2]):
                    grid[corner[0] + a, corner[1] + b, corner[2] + c] += w * weights[2, c]


@numba.njit(nogil=True, cache=True)
def _read(start, stop, points, width, fields, out):
    corner, weights = np.empty(AXES, np.int64), np.empty((AXES, ORDER))
    for i in range(start, stop):
        _corner(points[i], width, fields.shape, corner, weights)
        f, x, y, z = 0.0, 0.0, 0.0, 0.0
        for a in range(width[0]):
            for b in range(width[1]):
                for c in range(width[2]):
                    w = weights[0, a] * weights[1, b] * weights[2, c]
                    node = fields[corner[0] + a, corner[1] + b, corner[2] + c]
                    f += w * node[0]
                    x += w * node[1]
                    y += w * node[2]
                    z += w * node[3]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = f, x, y, z
