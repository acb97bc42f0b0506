"""Euclidean distances between all pairs of rows, three ways, in bounded memory."""

from __future__ import annotations

import torch

from lib.checks import wide
from lib.kernels import check

METHODS = ("broadcast", "einsum", "expanded")
MIB = 2**20


def pairwise(x: torch.Tensor, y: torch.Tensor, method: str = "expanded", memory_limit: int = 256 * MIB) -> torch.Tensor:
    """Return the distances [n, m] between the rows of x [n, d] and of y [m, d], any floating dtype, any device.

    `broadcast` squares all differences [rows, m, d] and sums; `einsum` lets the sum be part of the product; `expanded`
    uses |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, a matrix product and thus far faster, but it loses digits where distances
    are small beside the lengths of x and y. What is held beside the result stays within `memory_limit` bytes: as many
    rows of x at a time as fit. A ValueError says when not even one row does.
    """
    check.pair(x, y, check.FLOATS, "x [n, d] and y [m, d]")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"rows of x and y need one length, got x {list(x.shape)} and y {list(y.shape)}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    out = x.new_empty(x.shape[0], y.shape[0])
    x, y = wide(x), wide(y)  # squares of half precision overflow
    for rows in _chunks(x, y, method, memory_limit):
        out[rows] = _rows(x[rows], y, method)
    return out


def _chunks(x: torch.Tensor, y: torch.Tensor, method: str, memory_limit: int) -> list[slice]:
    """Cut the rows of x so that the temporaries of each chunk fit into `memory_limit` bytes."""
    (n, d), m = x.shape, y.shape[0]
    size = x.element_size()
    per_row = (2 * (d + m) if method == "expanded" else m * (d + 1)) * size
    fixed = m * (d + 1) * size if method == "expanded" else 0
    count = (memory_limit - fixed) // max(per_row, 1)
    if count < 1 and n:
        raise ValueError(
            f"a memory limit of {memory_limit} bytes is too small: {method!r} needs {fixed + per_row} bytes for one "
            f"row of x {list(x.shape)} against y {list(y.shape)} of {x.dtype}"
        )
    return [slice(start, start + count) for start in range(0, n, max(count, 1))]


def _rows(x: torch.Tensor, y: torch.Tensor, method: str) -> torch.Tensor:
    if method == "broadcast":
        return (x[:, None] - y).square_().sum(dim=-1).sqrt_()
    if method == "einsum":
        difference = x[:, None] - y
        return torch.einsum("nmd,nmd->nm", difference, difference).sqrt_()
    squares = (x * x).sum(dim=-1)[:, None] + (y * y).sum(dim=-1)
    return squares.sub_(x @ y.T, alpha=2).clamp_(min=0).sqrt_()
