"""The kernels of mean shift: what a point weighs, by its distance in bandwidths, and how far that reaches."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

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
