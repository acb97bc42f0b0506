"""Labels for k-means by bounds: a centre that moved little cannot have become the nearest (Elkan 2003).

The distance of a point from a centre, less all that the centre has moved since it was computed, is a lower bound. Only
where it is below the distance from the point's own centre is the distance computed again: most are not.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from lib.cluster.backends.threads import Threads

SAFE = 1 - 1e-5  # of a bound: more than float32 loses in a sum of squares


def bytes_needed(n: int, k: int) -> int:
    """Return the bytes that the bounds of n points and k centres take."""
    return 4 * n * k


class Bounds:
    """Finds the nearest centre of each point of data [n, d], pass after pass."""

    def __init__(self, data: Tensor, rows: int) -> None:
        self.data, self.rows, self.threads = data, rows, Threads()
        self.centres: Tensor | None = None

    def __call__(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Return the labels [n] of the nearest of centres [k, d], and the squared distances [n] from them."""
        if self.centres is None:
            self._begin(centres)
        else:
            self.drift += (centres - self.centres).double().square().sum(dim=1).sqrt().numpy()
        self.centres = centres
        given = self.data.numpy(), centres.numpy(), self.drift.astype(np.float32), self.bounds
        self.threads.over_rows(_pass, len(self.data), *given, self.labels.numpy(), self.squares.numpy())
        return self.labels.clone(), self.squares

    def _begin(self, centres: Tensor) -> None:
        """Take all distances once, by products, less what these lose."""
        n, k = len(self.data), len(centres)
        self.bounds, self.drift = np.empty((n, k), np.float32), np.zeros(k)
        self.labels, self.squares = torch.empty(n, dtype=torch.int64), self.data.new_empty(n)
        norms = centres.square().sum(dim=1)
        for first in range(0, n, self.rows):
            part = self.data[first : first + self.rows]
            lengths = part.square().sum(dim=1, keepdim=True) + norms
            squares = torch.addmm(lengths, part, centres.T, alpha=-2)
            self.labels[first : first + self.rows] = squares.argmin(dim=1)
            self.bounds[first : first + self.rows] = squares.sub_(lengths, alpha=1 - SAFE).clamp_(min=0).sqrt_().numpy()


@numba.njit(fastmath=True, nogil=True, cache=True)
def _squared(a, b):
    total = a[0] * 0
    for j in range(len(a)):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@numba.njit(nogil=True, cache=True)
def _pass(start, stop, data, centres, drift, bounds, labels, squares):
    for i in range(start, stop):
        own = labels[i]
        least = _squared(data[i], centres[own])
        distance = np.sqrt(least)
        for c in range(len(centres)):
            if c != own and bounds[i, c] - drift[c] <= distance:
                squared = _squared(data[i], centres[c])
                bounds[i, c] = np.float32(np.sqrt(squared) + drift[c]) * np.float32(SAFE)
                if squared < least or (squared == least and c < own):
                    bounds[i, own] = np.float32(distance + drift[own]) * np.float32(SAFE)
                    own, least, distance = c, squared, np.sqrt(squared)
        labels[i], squares[i] = own, least
