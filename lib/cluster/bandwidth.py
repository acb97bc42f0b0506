"""How wide a kernel should be, from the distances to near neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.cluster import check
from lib.kernels.distance import pairwise

MIB = 2**20


def estimate_bandwidth(
    x: Tensor,
    quantile: float = 0.3,
    *,
    n_samples: int | None = None,
    generator: torch.Generator | None = None,
    memory: int = 256 * MIB,
) -> float:
    """Return the mean distance to the k-th nearest neighbour, k being `quantile` of the points, itself counted.

    As scikit-learn's function of this name; `n_samples` points are drawn where there are more. Raises ValueError for a
    quantile outside (0, 1].
    """
    data = check.points(x)
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
    if n_samples is not None and n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if n_samples is not None and n_samples < len(data):
        drawn_on = "cpu" if generator is None else generator.device
        data = data[torch.randperm(len(data), generator=generator, device=drawn_on)[:n_samples].to(data.device)]
    k = max(1, int(len(data) * quantile))
    rows = max(1, memory // (64 * len(data)))
    nearest = [pairwise(part, data, "broadcast", memory).kthvalue(k, dim=1).values for part in data.split(rows)]
    return torch.cat(nearest).mean().item()
