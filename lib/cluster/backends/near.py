"""One step of mean shift with every point looking at what a search finds near it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from lib.cluster.backends.full import Shift
from lib.cluster.kernels import KERNELS
from lib.cluster.neighbours import Neighbours


def shift(
    data: Tensor,
    bandwidth: float,
    kernel: str,
    search: Callable[[Tensor], Neighbours],
    origin: Tensor,
    dtype: torch.dtype,
    rows: int,
) -> Shift:
    """Return a step against `data` [n, d], `rows` points at a time; the search sees them `origin` farther on."""

    def step(points: Tensor) -> tuple[Tensor, Tensor]:
        parts = [_step(part, search((part + origin).to(dtype)), data, bandwidth, kernel) for part in points.split(rows)]
        moved, weight = zip(*parts, strict=True)
        return torch.cat(moved), torch.cat(weight)

    return step


def _step(points: Tensor, found: Neighbours, data: Tensor, bandwidth: float, kernel: str) -> tuple[Tensor, Tensor]:
    weights = KERNELS[kernel](found.distances.to(data).square(), bandwidth)
    weights = torch.where(found.indices < 0, 0, weights)
    total = weights.sum(dim=1)
    moved = embedding_bag(found.indices.clamp(min=0), data, per_sample_weights=weights, mode="sum")
    return torch.where(total[:, None] > 0, moved / total[:, None], points), total
