"""What does not fit is refused in words that say what came and what would fit."""

import pytest
import torch

from lib.kernels import check, cpu, cuda, distance, naive

PRODUCTS = (
    *(naive.loops, naive.dot, naive.broadcast, naive.einsum, naive.matmul),
    *(cpu.numba_ijk, cpu.numba_plain, cpu.numba_parallel, cpu.numba_tiled),
    *(cuda.cuda_plain, cuda.cuda_shared, cuda.cuda_tiled),
)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (torch.ones(2, 3), torch.ones(4, 5), ["[2, 3]", "[4, 5]", "3 columns", "4 rows"]),
        (torch.ones(3), torch.ones(3, 4), ["two matrices", "[3]"]),
        (torch.ones(1, 2, 3), torch.ones(3, 4), ["two matrices", "[1, 2, 3]"]),
        (torch.ones(2, 3), torch.ones(3, 4, dtype=torch.float64), ["one dtype", "float32", "float64"]),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 4, dtype=torch.int64), ["float32", "int64"]),
        (torch.ones(2, 3), torch.ones(3, 4, device="meta"), ["one device", "cpu", "meta"]),
        (torch.ones(2, 3), [[1.0]], ["torch tensors", "list"]),
    ],
)
def test_every_product_refuses_what_does_not_fit(product, a, b, words):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        product(a, b)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize("product", PRODUCTS[5:])
def test_compiled_products_name_the_dtypes_they_take(product):
    half = torch.ones(2, 2, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"float32.*torch\.float16"):
        product(half, half)


def test_numba_on_the_cpu_refuses_another_device():
    with pytest.raises(ValueError, match=r"CPU.*meta"):
        cpu.numba_tiled(torch.ones(2, 2, device="meta"), torch.ones(2, 2, device="meta"))


def test_the_sizes_come_back():
    assert check.product(torch.ones(2, 3), torch.ones(3, 5)) == (2, 3, 5)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (torch.ones(2, 3), torch.ones(2, 4), {}, ["one length", "[2, 3]", "[2, 4]"]),
        (torch.ones(2), torch.ones(2, 4), {}, ["two matrices"]),
        (torch.ones(2, 3), torch.ones(2, 3), {"method": "expand"}, ["'expand'", "expanded"]),
        (torch.ones(2, 3), torch.ones(2, 3), {"memory_limit": 8}, ["memory limit of 8 bytes", "one row"]),
    ],
)
def test_pairwise_refuses_what_does_not_fit(x, y, options, words):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        distance.pairwise(x, y, **options)
    assert all(word in str(refusal.value) for word in words), refusal.value
