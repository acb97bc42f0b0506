"""The nearest centre in few dimensions: the distances of one point from all centres never leave the processor's cache.

A product of matrices would write them all out, and read them again to find the least: in few dimensions that is most of
the work.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from lib.cluster.backends.threads import Threads

MOST = 64  # dimensions; with more, a product of matrices is faster


def fits(data: Tensor) -> bool:
    """Tell whether points [n, d] are on the CPU and have few dimensions."""
    return data.device.type == "cpu" and data.shape[1] <= MOST


def nearest(data: Tensor, centres: Tensor) -> Tensor:
    """Return for each point [n, d] the number of the nearest of centres [k, d], the first of equals."""
    labels = torch.empty(len(data), dtype=torch.int64)
    halves, columns = centres.square().sum(dim=1) / 2, centres.T.contiguous()
    given = (table.numpy() for table in (data, columns, halves, labels))
    Threads().over_rows(_nearest, len(data), *given)
    return labels


@numba.njit(fastmath=True, nogil=True, cache=True)
def _nearest(start, stop, data, columns, halves, labels):
    d, k = columns.shape
    scores = np.empty_like(halves)  # half the squared distances, less half the point's own square
    least = np.empty_like(halves)
    for i in range(start, stop):
        for c in range(k):
            scores[c] = halves[c]
        for j in range(0, d - d % 4, 4):  # four at a time, as reading and writing the scores takes longest
            w, x, y, z = data[i, j], data[i, j + 1], data[i, j + 2], data[i, j + 3]
            for c in range(k):
                scores[c] -= (w * columns[j, c] + x * columns[j + 1, c]) + (
                    y * columns[j + 2, c] + z * columns[j + 3, c]
                )
        for j in range(d - d % 4, d):
            x = data[i, j]
            for c in range(k):
                scores[c] -= x * columns[j, c]
        for c in range(k):
            least[c] = scores[c]
        left = k
        while left > 1:  # the lower half against the upper: this runs in vectors, a running minimum does not
            half = (left + 1) // 2
            for c in range(left - half):
                least[c] = min(least[c], least[c + half])
            left = half
        own = k
        for c in range(k):
            own = min(own, c if scores[c] == least[0] else k)
        labels[i] = own
