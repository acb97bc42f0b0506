"""One step of mean shift with every point looking at all of the data, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.cluster.kernels import KERNELS, Kernel

Shift = Callable[[Tensor], tuple[Tensor, Tensor]]  # points [m, d] -> where they move [m, d], weight that they saw [m]


def shift(data: Tensor, bandwidth: float, kernel: str, rows: int) -> Shift:
    """Return a step against `data` [n, d], `rows` points at a time."""

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        parts = [_step(part, data, bandwidth, KERNELS[kernel]) for part in points.split(rows)]
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


def _step(points: Tensor, data: Tensor, bandwidth: float, kernel: Kernel) -> tuple[Tensor, Tensor]:
    weights = kernel(squared_distances(points, data), bandwidth)
    total = weights.sum(dim=1)
    moved = weights @ data
    return torch.where(total[:, None] > 0, moved / total[:, None], points), total
