"""What clustering takes: finite points [n, d] and a positive bandwidth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST = 1e-150  # whose square still is a float64


def points(x: Tensor) -> Tensor:
    """Return x [n, d] in float64; raises for what is no table of finite numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor [n, d], got {type(x).__name__}")
    if x.ndim != 2 or not x.shape[0] or not x.shape[1]:
        raise ValueError(f"x must be [n, d] with at least one row and one column, got {list(x.shape)}")
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"x must hold real numbers, got {x.dtype}")
    found = x.detach().double()
    wrong = ~found.isfinite().all(dim=1)
    if wrong.any():
        raise ValueError(f"x must be finite, got NaN or infinity in {int(wrong.sum())} of {len(x)} rows")
    return found


def positive(name: str, value: float) -> float:
    """Return a number that is positive and finite, as is its square, or raise ValueError."""
    value = float(value)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")
    if not SMALLEST <= value <= 1 / SMALLEST:
        raise ValueError(f"{name} must be from {SMALLEST:g} to {1 / SMALLEST:g}, as it is squared, got {value}")
    return value
