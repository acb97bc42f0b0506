"""The matrix product as a BLAS builds it: packed panels, and an inner block whose sums never leave the registers.

The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008). b is packed
into panels as wide as a tile, DEPTH rows of which, over a block of columns, stay in the L2 cache. ROWS rows of a at a
time are packed into the L1 cache and multiplied by panel after panel. Each such product, `tile_product`, keeps
ROWS * VECTORS vectors of sums in registers while it takes a row of the panel of b and a column of the rows of a at a
time. It is written in LLVM's own language, because numba has no vector type.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def register_file(features: Mapping[str, bool], machine: str) -> tuple[int, int, int]:
    """Return the bytes of a vector, and the rows and vectors of a tile: the sums fill most of the CPU's registers.

    AVX-512 and Arm have 32 registers, AVX and SSE 16; a row of b and a number of a need some, too.
    """
    if features.get("avx512f"):
        return 64, 12, 2
    if features.get("avx"):
        return 32, 6, 2
    return (16, 8, 3) if machine in ("arm64", "aarch64") else (16, 4, 2)


def host_features() -> Mapping[str, bool]:
    """Return what this CPU can do, or nothing where LLVM cannot tell."""
    try:
        return llvm.get_host_cpu_features()
    except RuntimeError:
        return {}


VECTOR_BYTES, ROWS, VECTORS = register_file(host_features(), platform.machine())
DEPTH = 256
B_BYTES = 2**20  # of DEPTH rows of packed b, about half of an L2 cache
AHEAD = 32  # rows of packed b between the one in use and the one to fetch into the L1 cache: saves a twentieth


@numba.njit(parallel=True)
def product(a, b, packed, c):
    """Write a @ b into c; `packed` holds `packed_size(b)` numbers, aligned to vectors if possible.

    Threads meet twice for each block of columns: after packing b, and at the end.
    """
    width, block, threads = tile_width(b), block_width(b), numba.get_num_threads()
    height = -(-a.shape[0] // (ROWS * threads)) * ROWS
    for j0 in range(0, b.shape[1], block):
        panels = -(-min(block, b.shape[1] - j0) // width)
        for p in numba.prange(panels):
            for k0 in range(0, b.shape[0], DEPTH):
                depth = min(DEPTH, b.shape[0] - k0)
                pack(b, k0, j0 + p * width, depth, width, packed, (k0 * panels + p * depth) * width, width)
        for thread in numba.prange(threads):
            multiply_rows(a, thread * height, min((thread + 1) * height, a.shape[0]), packed, panels, c, j0)


@numba.njit
def multiply_rows(a, start, stop, packed, panels, c, j0):
    """Write rows start to stop of a, times all packed panels, to the same rows of c from column j0 on."""
    width = tile_width(c)
    rows = np.empty(ROWS * DEPTH, a.dtype)
    for k0 in range(0, a.shape[1], DEPTH):
        depth = min(DEPTH, a.shape[1] - k0)
        for i in range(start, stop, ROWS):
            pack(a, i, k0, ROWS, depth, rows, 0, DEPTH)
            for p in range(panels):
                j, at = j0 + p * width, (k0 * panels + p * depth) * width
                if i + ROWS <= c.shape[0] and j + width <= c.shape[1]:
                    tile_product(rows, packed, at, depth, c, i, j, k0 == 0)
                else:
                    tile_at_edge(rows, packed, at, depth, c, i, j, k0 == 0)


@numba.njit
def tile_width(b):
    """Return the columns of a tile for the dtype of b."""
    return VECTORS * VECTOR_BYTES // b.itemsize


@numba.njit
def block_width(b):
    """Return how many columns of b are packed at a time: whole tiles, of which DEPTH rows fill B_BYTES."""
    return B_BYTES // (DEPTH * VECTORS * VECTOR_BYTES) * tile_width(b)


@numba.njit
def packed_size(b):
    """Return how many numbers the packed panels of b take: a copy of at most a block's columns."""
    return b.shape[0] * min(block_width(b), -(-b.shape[1] // tile_width(b)) * tile_width(b))


@numba.njit
def pack(source, i0, j0, rows, columns, target, at, stride):
    """Copy the block [rows, columns] at (i0, j0) to rows `stride` apart in `target`; beyond the source is zero."""
    step = tile_width(source)
    height, width = min(rows, source.shape[0] - i0), min(columns, source.shape[1] - j0)
    whole = width // step * step
    for i in range(height):
        for j in range(0, whole, step):
            copy_row(source, i0 + i, j0 + j, target, at + i * stride + j)
        for j in range(whole, columns):
            target[at + i * stride + j] = source[i0 + i, j0 + j] if j < width else 0
    for i in range(height, rows):
        target[at + i * stride : at + i * stride + columns] = 0


@numba.njit
def tile_at_edge(a, b, at, depth, c, i, j, first):
    """Do as `tile_product` where the tile sticks out of c: by way of a whole tile."""
    tile = np.empty((ROWS, tile_width(c)), c.dtype)
    tile_product(a, b, at, depth, tile, 0, 0, True)
    for y in range(min(ROWS, c.shape[0] - i)):
        for x in range(min(tile_width(c), c.shape[1] - j)):
            c[i + y, j + x] = tile[y, x] if first else c[i + y, j + x] + tile[y, x]


@intrinsic
def copy_row(typing, source, i, j, target, at):
    """Copy a tile's width of numbers from row i and column j of `source` to `target`, in whole vectors."""

    def generate(context, builder, signature, args):
        source, target = (Memory(context, builder, signature.args[n], args[n]) for n in (0, 3))
        for v in range(VECTORS):
            target.store(source.load(source.address(args[1], args[2], v)), target.address(None, args[4], v))

    return types.void(source, i, j, target, at), generate


@intrinsic
def tile_product(typing, a, b, at, depth, c, i, j, first):
    """Multiply packed rows a [ROWS * DEPTH] by the panel at b[at:], over `depth`, and add to (or write) c at (i, j)."""

    def generate(context, builder, signature, args):
        a, b, c = (Memory(context, builder, signature.args[n], args[n]) for n in (0, 1, 4))
        at, depth, i, j, first = args[2], args[3], *args[5:]
        start, loop, end = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("store")
        zero = ir.Constant(at.type, 0)
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(at.type)
        sums = [[builder.phi(a.vector) for _ in range(VECTORS)] for _ in range(ROWS)]
        offset = builder.add(at, builder.mul(k, ir.Constant(at.type, VECTORS * a.lanes)))
        row = [b.load(b.address(None, offset, v)) for v in range(VECTORS)]
        for line in range(0, VECTORS * VECTOR_BYTES, 64):
            b.prefetch(b.address(None, offset, AHEAD * VECTORS + line // VECTOR_BYTES))
        added = []
        for y in range(ROWS):
            number = a.broadcast(a.address(None, builder.add(k, ir.Constant(at.type, y * DEPTH)), 0))
            added.append([a.multiply_add(number, row[v], sums[y][v]) for v in range(VECTORS)])
        following = builder.add(k, ir.Constant(at.type, 1))
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
        for phi, first_value, next_value in [(k, zero, following)] + [
            (sums[y][v], ir.Constant(a.vector, None), added[y][v]) for y in range(ROWS) for v in range(VECTORS)
        ]:
            phi.add_incoming(first_value, start)
            phi.add_incoming(next_value, loop)

        builder.position_at_end(end)
        places = [
            (c.address(builder.add(i, ir.Constant(i.type, y)), j, v), added[y][v])
            for y in range(ROWS)
            for v in range(VECTORS)
        ]
        with builder.if_else(first) as (write, add):
            with write:
                for address, value in places:
                    c.store(value, address)
            with add:
                for address, value in places:
                    c.store(builder.fadd(value, c.load(address)), address)

    return types.void(a, b, at, depth, c, i, j, first), generate


class Memory:
    """An array as LLVM sees it while code is generated: addresses, and vectors loaded and stored at them."""

    def __init__(self, context, builder: ir.IRBuilder, kind: types.Array, value: ir.Value) -> None:
        self.builder = builder
        self.number = context.get_value_type(kind.dtype)
        self.size = context.get_abi_sizeof(self.number)
        self.lanes = VECTOR_BYTES // self.size
        self.vector = ir.VectorType(self.number, self.lanes)
        array = context.make_array(kind)(context, builder, value)
        self.start = array.data
        self.row_bytes = cgutils.unpack_tuple(builder, array.strides)[0]  # of no use where there is one dimension

    def address(self, row: ir.Value | None, column: ir.Value, vector: int) -> ir.Value:
        """Return the address `vector` vectors to the right of (row, column)."""
        place = self.builder.gep(self.start, [column])
        if row is not None:
            step = self.builder.bitcast(place, ir.IntType(8).as_pointer())
            step = self.builder.gep(step, [self.builder.mul(row, self.row_bytes)])
            place = self.builder.bitcast(step, self.start.type)
        return self.builder.gep(place, [ir.Constant(column.type, vector * self.lanes)])

    def load(self, address: ir.Value) -> ir.Value:
        """Load a vector; it need not be aligned."""
        return self.builder.load(self.builder.bitcast(address, self.vector.as_pointer()), align=self.size)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Store a vector; it need not be aligned."""
        self.builder.store(value, self.builder.bitcast(address, self.vector.as_pointer()), align=self.size)

    def prefetch(self, address: ir.Value) -> None:
        """Ask for the cache line at an address, which may lie beyond the array, to be read into the L1 cache."""
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        prefetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(flag, value) for value in (0, 3, 1))
        self.builder.call(prefetch, [self.builder.bitcast(address, byte), read, keep, data])

    def broadcast(self, address: ir.Value) -> ir.Value:
        """Load a number into all lanes of a vector."""
        undefined, first = ir.Constant(self.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = self.builder.insert_element(undefined, self.builder.load(address), first)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(one, undefined, everywhere)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """Return x * y + z, in one instruction where the CPU has it."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{self.size * 8}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [x, y, z])
