"""The compiled products against float64; the scheme of tiles in plain Python, with tiles too small to miss an edge."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.kernels import cpu, simd
from tests.kernels.products import assert_is_product, matrix, pairs

PRODUCTS = (cpu.numba_ijk, cpu.numba_plain, cpu.numba_parallel, cpu.numba_tiled)


@pytest.mark.parametrize("product", PRODUCTS)
@settings(deadline=None, max_examples=40)
@given(pair=pairs(70))
def test_any_shape_dtype_and_layout(product, pair):
    assert_is_product(product(*pair), *pair)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1000, 1), (5, 784, 10), (61, 513, 1100), (300, 256, 33)])
def test_sizes_beyond_one_block(shape, dtype):
    m, k, n = shape
    a, b = matrix(m, k, dtype, "contiguous", 1), matrix(k, n, dtype, "transposed", 2)
    assert_is_product(cpu.numba_tiled(a, b), a, b)


@pytest.mark.parametrize("product", PRODUCTS)
def test_infinity_and_nan_stay_where_they_belong(product):
    a, b = torch.eye(20), torch.ones(20, 40)
    b[3, 5], b[4, 6] = float("inf"), float("nan")
    torch.testing.assert_close(product(a, b), a @ b, equal_nan=True)


@pytest.mark.parametrize("product", PRODUCTS)
def test_inputs_stay_as_they_were(product):
    a, b = matrix(9, 8, torch.float32, "strided", 1), matrix(8, 7, torch.float32, "contiguous", 2)
    before = a.clone(), b.clone()
    product(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_one_thread_gives_what_many_give():
    a, b = matrix(100, 300, torch.float32, "contiguous", 1), matrix(300, 90, torch.float32, "contiguous", 2)
    threads = torch.get_num_threads()
    many = cpu.numba_tiled(a, b)
    try:
        torch.set_num_threads(1)
        one = cpu.numba_tiled(a, b)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, many)


@pytest.mark.parametrize("kernel", [cpu.ijk, cpu.ikj, cpu.ikj_parallel])
def test_the_loops_as_python(kernel):
    a, b = np.random.default_rng(0).random((2, 4, 4))
    c = np.empty((4, 4))
    kernel.py_func(a, b, c)
    np.testing.assert_allclose(c, a @ b)


@pytest.fixture
def interpreted(monkeypatch):
    """`simd` in plain Python with tiles of 3 x 4 and slices of 5, its two intrinsics replaced by what they mean."""

    def tile_product(a, b, at, depth, c, i, j, first):
        rows = a.reshape(simd.ROWS, simd.DEPTH)[:, :depth]
        tile = rows @ b[at : at + depth * 4].reshape(depth, 4)
        c[i : i + simd.ROWS, j : j + 4] = tile if first else c[i : i + simd.ROWS, j : j + 4] + tile

    def copy_row(source, i, j, target, at):
        target[at : at + 4] = source[i, j : j + 4]

    stand_ins = {"tile_product": tile_product, "copy_row": copy_row, "ROWS": 3, "VECTORS": 2, "VECTOR_BYTES": 16}
    stand_ins |= {"DEPTH": 5, "B_BYTES": 2 * 5 * 4 * 8}
    for name, value in vars(simd).copy().items():
        if hasattr(value, "py_func"):
            stand_ins[name] = value.py_func
    for name, value in stand_ins.items():
        monkeypatch.setattr(simd, name, value)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 30))
def test_blocks_panels_and_edges_as_python(interpreted, m, k, n):
    rng = np.random.default_rng(m * 1000 + k * 100 + n)
    a, b, c = rng.random((m, k)), rng.random((k, n)), np.full((m, n), np.nan)
    simd.product(a, b, np.full(simd.packed_size(b), np.nan), c)
    np.testing.assert_allclose(c, a @ b)


@pytest.mark.parametrize(
    ("features", "machine", "registers"),
    [
        ({"avx512f": True, "avx": True}, "x86_64", 32),
        ({"avx": True}, "x86_64", 16),
        ({}, "x86_64", 16),
        ({"neon": True}, "aarch64", 32),
    ],
)
def test_the_sums_and_a_row_of_b_fit_the_registers(features, machine, registers):
    size, rows, vectors = simd.register_file(features, machine)
    assert registers / 2 <= rows * vectors + vectors < registers
    assert size == {"avx512f": 64, "avx": 32}.get(next(iter(features), ""), 16)


NARROW = """
import sys, torch
from lib.kernels import cpu, simd
from tests.kernels.products import assert_is_product, matrix
simd.VECTOR_BYTES, simd.ROWS, simd.VECTORS = simd.register_file({sys.argv[1]: True}, sys.argv[2])
for m, k, n in (5, 784, 10), (61, 513, 300):
    a, b = matrix(m, k, torch.float32, "contiguous", 1), matrix(k, n, torch.float32, "contiguous", 2)
    assert_is_product(cpu.numba_tiled(a, b), a, b)
"""


@pytest.mark.parametrize("kind", [("avx", "x86_64"), ("neon", "aarch64")])
def test_the_tiles_of_other_cpus_give_the_product_too(kind):
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", NARROW, *kind], cwd=root, check=True, timeout=300)
