"""The matrix product in five steps, each giving torch more of the work: from three Python loops to one call.

All take a [m, inner] and b [inner, n] of one floating dtype on one device, and return a @ b [m, n]. They raise a
ValueError where shapes, dtypes or devices do not fit.
"""

from __future__ import annotations

import torch

from lib.kernels import check


def loops(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by three Python loops: m * n * inner steps, each one product of two numbers."""
    m, inner, n = check.product(a, b)
    c = a.new_zeros(m, n)
    for i in range(m):
        for j in range(n):
            for k in range(inner):
                c[i, j] += a[i, k] * b[k, j]
    return c


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply row by column: m * n steps, each the sum over a row of a times a column of b."""
    m, _, n = check.product(a, b)
    c = a.new_zeros(m, n)
    for i in range(m):
        for j in range(n):
            c[i, j] = (a[i] * b[:, j]).sum()
    return c


def broadcast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by broadcasting: m steps, each a row of a, as a column, times all of b, summed down."""
    m, _, n = check.product(a, b)
    c = a.new_zeros(m, n)
    for i in range(m):
        c[i] = (a[i, :, None] * b).sum(dim=0)
    return c


def einsum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by naming what is summed: k appears on the left of the arrow only."""
    check.product(a, b)
    return torch.einsum("ik,kj->ij", a, b)


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by the library: BLAS on a CPU, cuBLAS on a GPU."""
    check.product(a, b)
    return a @ b
