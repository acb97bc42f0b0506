"""The CUDA kernels in numba's simulator, as compiled code, and on a GPU where there is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from numba import cuda as numba_cuda
from numba import types

from lib.kernels import cuda
from tests.kernels.products import LAYOUTS, assert_is_product, matrix

ROOT = Path(__file__).parents[2]
KERNELS = {"cuda_plain": cuda.cuda_plain, "cuda_shared": cuda.cuda_shared, "cuda_tiled": cuda.cuda_tiled}
EMPTY = ((0, 3, 2), (2, 3, 0), (2, 0, 3))


def simulated(name):
    """Run by this file as a script, in a process of its own: the simulator is chosen when numba is imported."""
    wide = torch.float64 if name != "cuda_tiled" else torch.float32
    shapes = [*EMPTY, (1, 1, 1), (5, 7, 6), (17, 35, 21), (16, 32, 16)]
    for index, shape in enumerate([*shapes, *([(130, 9, 5)] if name == "cuda_tiled" else [])]):
        m, k, n = shape
        layout = LAYOUTS[index % len(LAYOUTS)]
        for dtype in {torch.float32, wide}:
            a, b = matrix(m, k, dtype, layout, 1), matrix(k, n, dtype, LAYOUTS[index % 3], 2)
            assert_is_product(KERNELS[name](a, b), a, b)
    cuda.MAX_BLOCKS_DOWN = 1  # so that a grid is too low for all rows, as it is beyond a million on a GPU
    a, b = torch.randn(*((cuda.SIDE + 2, 3) if name == "cuda_tiled" else (35, 5))), torch.randn(3, 4)
    b = b if name == "cuda_tiled" else torch.randn(5, 4)
    assert_is_product(KERNELS[name](a, b), a, b)
    print(f"simulated {name}")


@pytest.mark.parametrize("name", KERNELS)
def test_in_the_simulator(name):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, name]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["simulated", name]


@pytest.mark.parametrize("name", KERNELS)
def test_without_a_gpu_the_error_says_how_to_go_on(name):
    with pytest.raises(ValueError, match="NUMBA_ENABLE_CUDASIM=1"):
        KERNELS[name](torch.ones(2, 2), torch.ones(2, 2))


def ptx(kernel, dtype=types.float32, **options):
    """Compile for an A100 or later, which needs no GPU."""
    kind = types.Array(dtype, 2, "C")
    try:
        return numba_cuda.compile_ptx(kernel.py_func, (kind, kind, kind), cc=(8, 0), **options)[0]
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"no CUDA compiler here: {error}")


def test_the_tiled_kernel_sums_in_registers_and_moves_four_numbers_at_a_time():
    code = ptx(cuda.tiled_kernel, **cuda.BOUNDS)
    count = {text: len(re.findall(text, code)) for text in (r"fma\.rn\.f32", r"ld\.shared", r"ld\.global", r"\.local")}
    assert count == {
        r"fma\.rn\.f32": 8 * 8 * cuda.DEPTH,
        r"ld\.shared": 4 * cuda.DEPTH,
        r"ld\.global": 4,
        r"\.local": 0,
    }
    assert code.count("ld.shared.v4.f32") == 4 * cuda.DEPTH
    assert code.count("ld.global.v4.f32") == 4
    assert code.count("st.global.v4.f32") == code.count("st.global") == 16
    assert ".minnctapersm 2" in code


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, types.float32), (torch.float64, types.float64)])
def test_the_shared_kernel_reads_each_value_once_a_tile(dtype, number):
    code = ptx(cuda.shared_kernel(dtype), number)
    assert len(re.findall(r"ld\.global", code)) == 2
    assert len(re.findall(r"fma\.rn", code)) == cuda.TILE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*EMPTY, (1, 1, 1), (129, 257, 131), (512, 512, 512), (1000, 300, 2000)])
def test_on_a_gpu(name, shape, layout):
    m, k, n = shape
    a, b = (matrix(*size, torch.float32, layout, 1).cuda() for size in ((m, k), (k, n)))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = KERNELS[name](a, b) + 0
    stream.synchronize()
    assert_is_product(found, a, b)


if __name__ == "__main__":
    simulated(sys.argv[1])
