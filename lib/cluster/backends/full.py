"""One step of mean shift with every point looking at all of the data, a batch of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Shift = Callable[[Tensor], tuple[Tensor, Tensor]]  # points [m, d] -> where they move [m, d], weight that they saw [m]
Kernel = Callable[[Tensor, float], Tensor]  # squared distances, bandwidth -> weights


def gaussian(squared: Tensor, bandwidth: float) -> Tensor:
    """exp(-r^2 / 2), r in bandwidths."""
    return squared.mul(-0.5 / bandwidth**2).exp_()


def flat(squared: Tensor, bandwidth: float) -> Tensor:
    """1 within one bandwidth, else 0."""
    return (squared <= bandwidth**2).to(squared)


def triangular(squared: Tensor, bandwidth: float) -> Tensor:
    """1 - r within one bandwidth, else 0, r in bandwidths."""
    return squared.div(bandwidth**2).sqrt_().neg_().add_(1).clamp_(min=0)


KERNELS: dict[str, Kernel] = {"gaussian": gaussian, "flat": flat, "triangular": triangular}
LOST = 1e-5  # what all of the data out of reach of a Gaussian may weigh together; a point of the data weighs 1


def reach(kernel: str, n: int) -> float:
    """Return how many bandwidths far a point has to look among n others."""
    return 1.0 if kernel != "gaussian" else math.sqrt(2 * math.log(n / LOST))


def shift(data: Tensor, bandwidth: float, kernel: str, rows: int) -> Shift:
    """Return a step against `data` [n, d], `rows` points at a time."""

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        parts = [_step(part, data, bandwidth, KERNELS[kernel]) for part in points.split(rows)]
        moved, weight = zip(*parts, strict=True)
        return torch.cat(moved), torch.cat(weight)

    return step


def rows_within(memory: int, n: int, d: int) -> int:
    """Return how many points a step may take at a time; raises ValueError when not even one row fits."""
    row = 8 * (4 * n + 4 * d)  # squared distances, a difference, their product and the weights, in float64
    if memory < row:
        raise ValueError(f"a budget of {memory} bytes is too small: one point against {n} others needs {row}")
    return memory // row


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
