"""The matrix product compiled for the CPU: what loop order, all cores, and tiles with vectors are worth.

All take a [m, k] and b [k, n], float32 or float64 on the CPU, and return a @ b [m, n]. They raise a ValueError where
shapes, dtypes or devices do not fit. The result carries no gradient. The first call with a dtype compiles, which takes
a second or a few.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import torch

from lib.kernels import check, simd


def numba_ijk(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by the three loops of the definition, compiled: the innermost walks down a column of b."""
    return _run(ijk, a, b)


def numba_plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by the same loops, reordered: the innermost walks along a row of b and of c."""
    return _run(ikj, a, b)


def numba_parallel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by the reordered loops, the rows shared among torch's number of threads."""
    return _run(ikj_parallel, a, b)


def numba_tiled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply by tiles whose sums stay in vector registers, from packed copies of a and b, on torch's threads."""
    return _run(_tiled, a, b)


def _run(kernel: Callable, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Check, call `kernel(a, b, c)` on the tensors' own memory, and return c."""
    m, _, n = check.product(a, b, check.SINGLE_AND_DOUBLE)
    check.on_cpu(a, "a numba kernel")
    c = a.new_empty(m, n)
    threads = numba.get_num_threads()
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    try:
        kernel(*(t.detach().contiguous().numpy() for t in (a, b, c)))
    finally:
        numba.set_num_threads(threads)
    return c


@numba.njit
def ijk(a, b, c):
    """Write a @ b to c: the sum runs innermost."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = a.dtype.type(0)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@numba.njit
def ikj(a, b, c):
    """Write a @ b to c: whole rows of b and c run innermost."""
    for i in range(c.shape[0]):
        c[i] = 0
        for k in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


@numba.njit(parallel=True)
def ikj_parallel(a, b, c):
    """Write a @ b to c as `ikj` does, its rows shared among threads."""
    for i in numba.prange(c.shape[0]):
        c[i] = 0
        for k in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def _tiled(a, b, c):
    if 0 in (*a.shape, *b.shape):  # nothing to sum, or nowhere to put it
        c[:] = 0
        return
    # torch allots memory at multiples of 64 bytes, the width of the widest vectors; numpy does not.
    simd.product(a, b, torch.empty(simd.packed_size(b), dtype=torch.from_numpy(b).dtype).numpy(), c)
