"""The kernels of mean shift: the weight of a point, by its distance in bandwidths, and where it is cut off."""

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
LOST = 1e-5  # what all of the data beyond the cutoff of a Gaussian may weigh together; a point itself weighs 1


def cutoff(kernel: str, n: int) -> float:
    """Return the distance in bandwidths beyond which a kernel over n points is left out."""
    return 1.0 if kernel != "gaussian" else math.sqrt(2 * math.log(n / LOST))
