"""The matrix product on a GPU, in three kernels: a value a thread, tiles in shared memory, tiles in registers.

All take a [m, k] and b [k, n] on one CUDA device, float32 or float64, and return a @ b [m, n], queued on
torch's current stream. Without a GPU, numba's simulator runs the same kernels on CPU tensors, thread by thread in
Python: set NUMBA_ENABLE_CUDASIM=1 before numba is imported, and keep the matrices small.
"""

from __future__ import annotations

import functools
import warnings

import torch
from llvmlite import ir
from numba import config, cuda, float32, float64, types
from numba.core import cgutils

from lib.kernels import check

if not config.ENABLE_CUDASIM:
    from numba.cuda.extending import intrinsic

SIMULATED = bool(config.ENABLE_CUDASIM)
MAX_BLOCKS_DOWN = 65_535  # of a grid, and 2^31 - 1 across (CUDA C++ Programming Guide, "Technical Specifications")
TILE = 16  # side of a tile in shared memory, and of the block of threads that fills it

# cuda_tiled: a block of threads computes SIDE x SIDE values, DEPTH products at a time. Shared memory holds two slices,
# in turn, its rows padded to begin in different banks. With 128 registers a thread two blocks fit a multiprocessor.
SIDE, DEPTH, THREADS = 128, 8, 256
SLICES, PADDED = 2 * DEPTH, SIDE + 4
BOUNDS = {} if SIMULATED else {"launch_bounds": (THREADS, 2)}


def cuda_plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply with one thread for each value of c: a row of a times a column of b, read from global memory."""
    m, _, n = check.product(a, b, check.SINGLE_AND_DOUBLE)
    c = a.new_zeros(m, n)
    _launch_rows(plain_kernel, TILE, TILE, (TILE, TILE), a.contiguous(), b.contiguous(), c)
    return c


def cuda_shared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply with tiles that the threads of a block fetch together into shared memory."""
    m, _, n = check.product(a, b, check.SINGLE_AND_DOUBLE)
    c = a.new_zeros(m, n)
    _launch_rows(shared_kernel(a.dtype), TILE, TILE, (TILE, TILE), a.contiguous(), b.contiguous(), c)
    return c


def cuda_tiled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply float32 matrices with 8 x 8 sums in the registers of each thread, four numbers to a load.

    Matrices whose sizes do not divide by the block's tile, or that are not contiguous or not aligned to four numbers,
    are copied into a frame of zeros first.
    """
    m, k, n = check.product(a, b, (torch.float32,))
    if k == 0:
        return cuda_plain(a, b)
    rows, depth, columns = _up(m, SIDE), _up(k, DEPTH), _up(n, SIDE)
    c = a.new_empty(rows, columns)
    _launch_rows(tiled_kernel, SIDE, SIDE, (THREADS,), _framed(a, rows, depth), _framed(b, depth, columns), c)
    return c if (rows, columns) == (m, n) else c[:m, :n].contiguous()


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _framed(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return the matrix contiguous, aligned to 16 bytes, and filled up with zeros to [rows, columns]."""
    if matrix.shape == (rows, columns) and matrix.is_contiguous() and matrix.data_ptr() % 16 == 0:
        return matrix
    framed = matrix.new_zeros(rows, columns)
    framed[: matrix.shape[0], : matrix.shape[1]] = matrix
    return framed


def _launch_rows(
    kernel, high: int, wide: int, threads: tuple[int, ...], a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> None:
    """Run `kernel` for every block of `high` x `wide` values of c; a grid holds only so many rows of blocks."""
    for top in range(0, max(1, len(c)), MAX_BLOCKS_DOWN * high):
        rows = slice(top, top + MAX_BLOCKS_DOWN * high)
        grid = -(-c.shape[1] // wide), -(-len(c[rows]) // high)
        _launch(kernel, grid, threads, a[rows], b, c[rows])


def _launch(kernel, grid: tuple[int, int], block: tuple[int, ...], *tensors: torch.Tensor) -> None:
    """Run `kernel` on torch's current stream, or in the simulator; there is nothing to do for an empty tensor."""
    device = tensors[0].device
    if device.type != ("cpu" if SIMULATED else "cuda"):
        raise ValueError(
            f"the CUDA kernels got tensors on {device}. On a GPU pass CUDA tensors; without one, set "
            "NUMBA_ENABLE_CUDASIM=1 before numba is imported and pass small CPU tensors, for numba's simulator"
        )
    if not all(t.numel() for t in tensors):
        return
    if SIMULATED:
        kernel[grid, block](*(t.detach().numpy() for t in tensors))
        return
    with torch.cuda.device(device), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")  # numba warns of small grids; here they are meant
        stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
        kernel[grid, block, stream](*(cuda.as_cuda_array(t.detach(), sync=False) for t in tensors))


if SIMULATED:

    def load4(array, i, j):
        """Return four neighbours of a row, in one load."""
        return array[i, j], array[i, j + 1], array[i, j + 2], array[i, j + 3]

    def store(array, i, j, values):
        """Write neighbours of a row, in one store."""
        array[i, j : j + len(values)] = values

else:

    @intrinsic
    def load4(typing, array, i, j):
        """Return four neighbours of a row, in one load of 128 bits."""

        def generate(context, builder, signature, args):
            vector = builder.load(_address(context, builder, signature, args, 4), align=16)
            lanes = [builder.extract_element(vector, ir.Constant(ir.IntType(32), lane)) for lane in range(4)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(array.dtype, 4)(array, i, j), generate

    @intrinsic
    def store(typing, array, i, j, values):
        """Write neighbours of a row, a power of two of them, in one store."""

        def generate(context, builder, signature, args):
            numbers = cgutils.unpack_tuple(builder, args[3])
            address = _address(context, builder, signature, args, len(numbers))
            vector = ir.Constant(address.type.pointee, ir.Undefined)
            for lane, number in enumerate(numbers):
                vector = builder.insert_element(vector, number, ir.Constant(ir.IntType(32), lane))
            builder.store(vector, address, align=4 * len(numbers))
            return context.get_dummy_value()

        return types.void(array, i, j, values), generate


def _address(context, builder, signature, args, count):
    """Return the address of `count` numbers at (i, j) of a matrix whose rows are contiguous."""
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, args[0])
    i, j = (context.cast(builder, args[n], signature.args[n], types.int64) for n in (1, 2))
    columns = cgutils.unpack_tuple(builder, array.shape)[1]
    place = builder.gep(array.data, [builder.add(builder.mul(i, columns), j)])
    return builder.bitcast(place, ir.PointerType(ir.VectorType(context.get_value_type(kind.dtype), count)))


@cuda.jit
def plain_kernel(a, b, c):
    """Compute c[i, j] by the thread at column j and row i of the grid."""
    j, i = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        total = a.dtype.type(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]
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
            for k in range(TILE):
                total += tile_a[y, k] * tile_b[k, x]
            cuda.syncthreads()
        if i < c.shape[0] and j < c.shape[1]:
            c[i, j] = total

    return kernel


@cuda.jit(device=True, inline="always")
def add_products(tile_a, tile_b, k, y, x, sums):
    """Add the product of 8 numbers of a column of a and 8 of a row of b, from shared memory, to the 8 x 8 sums."""
    column = cuda.local.array(8, float32)
    row = cuda.local.array(8, float32)
    column[0], column[1], column[2], column[3] = load4(tile_a, k, y)
    column[4], column[5], column[6], column[7] = load4(tile_a, k, y + 32)
    row[0], row[1], row[2], row[3] = load4(tile_b, k, x)
    row[4], row[5], row[6], row[7] = load4(tile_b, k, x + 16)
    for i in range(8):
        for j in range(8):
            sums[i, j] += column[i] * row[j]


@cuda.jit(**BOUNDS)
def tiled_kernel(a, b, c):
    """Compute 128 x 128 values of c by 256 threads, 8 x 8 each, as four squares of 4 x 4.

    A warp of 32 threads covers 64 x 32 values: 8 threads down and 4 across, so that the fragments that it reads from
    shared memory fall into different banks. While a slice of DEPTH products is summed, the next one is on its way from
    global memory into registers, and goes to the other half of the shared tiles. Rows of tile_a are columns of a.
    """
    tile_a = cuda.shared.array((SLICES, PADDED), float32)
    tile_b = cuda.shared.array((SLICES, SIDE), float32)
    sums = cuda.local.array((8, 8), float32)
    thread = cuda.threadIdx.x
    top, left = cuda.blockIdx.y * SIDE, cuda.blockIdx.x * SIDE
    warp, lane = thread // 32, thread % 32
    y = warp // 4 * 64 + lane // 4 * 4
    x = warp % 4 * 32 + lane % 4 * 4
    a_row, a_column = thread // 2, thread % 2 * 4
    b_row, b_column = thread // 32, thread % 32 * 4

    for i in range(8):
        for j in range(8):
            sums[i, j] = 0
    next_a = load4(a, top + a_row, a_column)
    next_b = load4(b, b_row, left + b_column)
    for start in range(0, a.shape[1], DEPTH):
        half = start // DEPTH % 2 * DEPTH
        for i in range(4):
            store(tile_a, half + a_column + i, a_row, (next_a[i],))
        store(tile_b, half + b_row, b_column, next_b)
        cuda.syncthreads()
        if start + DEPTH < a.shape[1]:
            next_a = load4(a, top + a_row, start + DEPTH + a_column)
            next_b = load4(b, start + DEPTH + b_row, left + b_column)
        add_products(tile_a, tile_b, half, y, x, sums)
        add_products(tile_a, tile_b, half + 1, y, x, sums)
        add_products(tile_a, tile_b, half + 2, y, x, sums)
        add_products(tile_a, tile_b, half + 3, y, x, sums)
        add_products(tile_a, tile_b, half + 4, y, x, sums)
        add_products(tile_a, tile_b, half + 5, y, x, sums)
        add_products(tile_a, tile_b, half + 6, y, x, sums)
        add_products(tile_a, tile_b, half + 7, y, x, sums)
    for i in range(8):
        for j in range(0, 8, 4):
            values = sums[i, j], sums[i, j + 1], sums[i, j + 2], sums[i, j + 3]
            store(c, top + y + i // 4 * 32 + i % 4, left + x + j * 4, values)
