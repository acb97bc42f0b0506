"""Labels for k-means by bounds: a centre that moved little cannot have become the nearest (Elkan 2003).

The distance of a point from a centre, less all that the centre has moved since it was computed, is a lower bound; that
from its own centre, plus all that this one has moved, an upper one. Only where a lower bound is below the upper one are
distances computed again: most are not, and most points are not even looked at.
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

    def __call__(self, centres: Tensor) -> Tensor:
        """Return the labels [n] of the nearest of centres [k, d]."""
        if self.centres is None:
            self._begin(centres)
        else:
            self.drift += (centres - self.centres).double().square().sum(dim=1).sqrt().numpy()
        self.centres = centres
        given = self.data.numpy(), centres.numpy(), self.drift, self.lower, self.upper, self.labels.numpy()
        self.threads.over_rows(_pass, len(self.data), *given)
        return self.labels.clone()

    def _begin(self, centres: Tensor) -> None:
        """Take all distances once, by products, less what these lose."""
        n, k = len(self.data), len(centres)
        self.lower, self.upper, self.drift = np.empty((n, k), np.float32), np.full(n, np.inf), np.zeros(k)
        self.labels = torch.empty(n, dtype=torch.int64)
        norms = centres.square().sum(dim=1)
        for first in range(0, n, self.rows):
            part = self.data[first : first + self.rows]
            lengths = part.square().sum(dim=1, keepdim=True) + norms
            squares = torch.addmm(lengths, part, centres.T, alpha=-2)
            self.labels[first : first + self.rows] = squares.argmin(dim=1)
            self.lower[first : first + self.rows] = squares.sub_(lengths, alpha=1 - SAFE).clamp_(min=0).sqrt_().numpy()


@numba.njit(fastmath=True, nogil=True, cache=True)
def _squared(a, b):
    total = a[0] * 0
    for j in range(len(a)):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@numba.njit(nogil=True, cache=True)
def _pass(start, stop, data, centres, drift, lower, upper, labels):
    for i in range(start, stop):
        own, known = labels[i], False
        distance = upper[i] + drift[own]
        for c in range(len(centres)):
            if c == own or lower[i, c] - drift[c] > distance:
                continue
            if not known:
                least, known = _squared(data[i], centres[own]), True
                distance = np.sqrt(least)
                if lower[i, c] - drift[c] > distance:
                    continue
            squared = _squared(data[i], centres[c])
            lower[i, c] = (np.sqrt(squared) + drift[c]) * SAFE
            if squared < least or (squared == least and c < own):
                lower[i, own] = (distance + drift[own]) * SAFE
                own, least, distance = c, squared, np.sqrt(squared)
        if known:
            labels[i], upper[i] = own, distance / SAFE - drift[own]
