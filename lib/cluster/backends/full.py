"""One step of mean shift with every point looking at all of the data, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.cluster.kernels import KERNELS, Kernel

FEW = 8  # dimensions, in which differences are as fast as a product of matrices
ROUNDING = 4 * 2**-52  # of a squared distance by a product, in squares of the longest row
Distances = Callable[[Tensor, Tensor], Tensor]  # points [m, d], data [n, d] -> squared distances [m, n]
Shift = Callable[[Tensor], tuple[Tensor, Tensor]]  # points [m, d] -> where they move [m, d], weight that they saw [m]


def shift(data: Tensor, bandwidth: float, kernel: str, rows: int) -> Shift:
    """Return a step against `data` [n, d], `rows` points at a time."""
    apart = _products(data) if kernel == "gaussian" and products_do(data, bandwidth) else squared_distances

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        parts = [_step(part, data, bandwidth, KERNELS[kernel], apart) for part in points.split(rows)]
        moved, weight = zip(*parts, strict=True)
        return torch.cat(moved), torch.cat(weight)

    return step


def rows_within(memory_limit: int, n: int, d: int) -> int:
    """Return how many points a step may take at a time; raises ValueError when not even one row fits."""
    row = 8 * (4 * n + 4 * d)  # squared distances, a difference, their product and the weights, in float64
    if memory_limit < row:
        raise ValueError(
            f"a memory limit of {memory_limit} bytes is too small: one point against {n} others needs {row}"
        )
    return memory_limit // row


def squared_distances(points: Tensor, data: Tensor) -> Tensor:
    """Return [m, n] for points [m, d] and data [n, d], an axis at a time: products would lose digits."""
    squared = points.new_zeros(len(points), len(data))
    for ours, theirs in zip(points.T, data.T, strict=True):
        squared += (ours[:, None] - theirs).square_()
    return squared


def products_do(data: Tensor, bandwidth: float) -> bool:
    """Tell whether a product of matrices is faster for distances between rows of data, and loses no digit that counts.

    What it loses is a few float64 roundings of the longest row's square; in bandwidths that must stay below 1e-8.
    """
    return data.shape[1] > FEW and data.square().sum(dim=1).max().item() * ROUNDING <= 1e-8 * bandwidth**2


def _products(data: Tensor) -> Distances:
    """Return the function that gives squared distances from data as |a|^2 + |b|^2 - 2 a.b."""
    squares = data.square().sum(dim=1)

    def distances(points: Tensor, data: Tensor) -> Tensor:
        lengths = points.square().sum(dim=1, keepdim=True) + squares
        return lengths.addmm_(points, data.T, alpha=-2).clamp_(min=0)

    return distances


def _step(points: Tensor, data: Tensor, bandwidth: float, kernel: Kernel, apart: Distances) -> tuple[Tensor, Tensor]:
    weights = kernel(apart(points, data), bandwidth)
    total = weights.sum(dim=1)
    moved = weights @ data
    return torch.where(total[:, None] > 0, moved / total[:, None], points), total
