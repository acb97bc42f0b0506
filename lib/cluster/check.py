"""What clustering takes: finite points [n, d] and a positive bandwidth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.checks import wide

SMALLEST = 1e-150  # whose square still is a float64


def points(x: Tensor) -> Tensor:
    """Return x [n, d] in float64; raises for what is no table of finite numbers."""
    return table(x).double()


def table(x: Tensor) -> Tensor:
    """Return x [n, d] in float32 or float64, contiguous; raises as `points` does."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor [n, d], got {type(x).__name__}")
    if x.layout != torch.strided:
        raise TypeError(f"x must be a dense tensor, got {x.layout}")
    if x.ndim != 2 or not x.shape[0] or not x.shape[1]:
        raise ValueError(f"x must be [n, d] with at least one row and one column, got {list(x.shape)}")
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"x must hold real numbers, got {x.dtype}")
    found = (wide(x.detach()) if x.is_floating_point() else x.double()).contiguous()
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


def pair(queries: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tables of one width and one dtype; raises for what is none."""
    queries, data = table(queries), table(data)
    if queries.shape[1] != data.shape[1]:
        raise ValueError(f"rows need one length, got queries {list(queries.shape)} and data {list(data.shape)}")
    dtype = torch.promote_types(queries.dtype, data.dtype)
    return queries.to(dtype), data.to(dtype)


def at_most(name: str, value: int, limit: int, what: str) -> int:
    """Return a count that is no larger than there are things to count, or raise ValueError."""
    if value > limit:
        raise ValueError(f"{name} must be at most the {limit} {what}, got {value}")
    return value


def rows_within(memory_limit: int, bytes_per_row: int) -> int:
    """Return how many rows fit into a memory limit; raises ValueError when not even one does."""
    if memory_limit < bytes_per_row:
        raise ValueError(f"a memory limit of {memory_limit} bytes is too small: one row needs {bytes_per_row}")
    return memory_limit // bytes_per_row
