"""How wide a kernel should be, from the distances to near neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.checks import check_count
from lib.cluster import check
from lib.cluster.backends import full

MIB = 2**20


def estimate_bandwidth(
    x: Tensor,
    quantile: float = 0.3,
    *,
    n_samples: int | None = None,
    generator: torch.Generator | None = None,
    memory_limit: int = 512 * MIB,
) -> float:
    """Return the mean distance to the k-th nearest neighbour, k being `quantile` of the points, itself counted.

    As scikit-learn's function of this name; `n_samples` points are drawn where there are more. It is 0 where all these
    neighbours are duplicates, and mean shift refuses it then: take a larger quantile, or each point once. Raises
    ValueError for a quantile outside (0, 1] and a `memory_limit` in bytes too small for one row.
    """
    data = check.points(x)
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
    if n_samples is not None and check_count("n_samples", n_samples) < len(data):
        drawn_on = "cpu" if generator is None else generator.device
        data = data[torch.randperm(len(data), generator=generator, device=drawn_on)[: int(n_samples)].to(data.device)]
    k = max(1, int(len(data) * quantile))
    parts = data.split(full.rows_within(memory_limit, *data.shape))
    nearest = [full.squared_distances(part, data).kthvalue(k, dim=1).values for part in parts]
    return torch.cat(nearest).sqrt().mean().item()
