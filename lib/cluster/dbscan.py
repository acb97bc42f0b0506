"""DBSCAN: clusters are what is connected through dense places, and what is in none is noise (Ester et al. 1996)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.checks import check_count
from lib.cluster import check
from lib.cluster.backends import cells, full, joined

MIB = 2**20


@dataclass(frozen=True)
class DBSCAN:
    """What DBSCAN found: `labels` [n] int64, -1 for noise, and which points are `core` [n], bool.

    Clusters are numbered by their first core point. A border point, near a core point and none itself, belongs to the
    first cluster that it is near to, as in scikit-learn.
    """

    labels: Tensor
    core: Tensor


def dbscan(x: Tensor, eps: float, min_samples: int = 5, *, memory_limit: int = 512 * MIB) -> DBSCAN:
    """Join the points of x [n, d] that have `min_samples` within `eps`, themselves counted, with all within `eps`.

    On the CPU and in up to 3 dimensions points are sorted into cells and look at those around them only; elsewhere all
    distances are computed, as many rows at a time as fit into `memory_limit` bytes. Distances are differences in
    float64. Raises TypeError and ValueError for what is no finite table of numbers, an `eps` that is not positive, and
    a memory limit too small for one row.
    """
    data = check.points(x)
    eps, min_samples = check.positive("eps", eps), check_count("min_samples", min_samples)
    data = data - data.median(dim=0).values
    if data.device.type == "cpu" and cells.fits(data, eps):
        roots, core = joined.by_cells(data, eps, min_samples)
    else:
        rows = full.rows_within(memory_limit, *data.shape)
        roots, core = _by_distances(data, eps, min_samples, rows, keep=len(data) ** 2 <= memory_limit // 2)
    return DBSCAN(_numbered(roots), core)


def _by_distances(data: Tensor, eps: float, min_samples: int, rows: int, keep: bool) -> tuple[Tensor, Tensor]:
    """Return of each point its cluster's first core point, n for noise, and which are core.

    Each core point takes the smallest number among those near it, again and again; as a number is that of a core point
    of the same cluster, it is followed as well, which shortens the way. Who is near is kept where a byte a pair fits,
    and computed anew each time elsewhere.
    """
    n, limit = len(data), eps * eps
    numbers = torch.arange(n, device=data.device)

    def near() -> Iterator[Tensor]:
        return (full.squared_distances(part, data) <= limit for part in data.split(rows))

    kept = list(near()) if keep else None
    core = torch.cat([part.sum(dim=1) >= min_samples for part in kept or near()])
    roots = torch.where(core, numbers, n)
    while True:
        least = torch.cat([torch.where(part, roots, n).amin(dim=1) for part in kept or near()])
        found = torch.where(core, least, n)
        found = torch.cat([found, found.new_tensor([n])])[found]
        if torch.equal(found, roots):
            return torch.where(core, roots, least), core
        roots = found


def _numbered(roots: Tensor) -> Tensor:
    """Return labels from 0 in the order of the first core points; n is noise, and becomes -1."""
    n = len(roots)
    labels = roots.unique(return_inverse=True)[1]
    return torch.where(roots == n, -1, labels)
