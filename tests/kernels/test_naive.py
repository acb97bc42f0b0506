"""The five products in torch against float64."""

import pytest
import torch
from hypothesis import given, settings

from lib.kernels import check, naive
from tests.kernels.products import assert_is_product, matrix, pairs

PRODUCTS = (naive.loops, naive.dot, naive.broadcast, naive.einsum, naive.matmul)


@pytest.mark.parametrize("product", PRODUCTS)
@settings(deadline=None, max_examples=25)
@given(pair=pairs(6, dtypes=check.FLOATS))
def test_any_shape_dtype_and_layout(product, pair):
    # How einsum's result lies in memory is torch's to choose: see the test below.
    assert_is_product(product(*pair), *pair, contiguous=product is not naive.einsum)


def test_torch_may_leave_the_result_of_einsum_transposed():
    a, b = (matrix(*shape, torch.float32, "transposed", 0) for shape in ((2, 1), (1, 3)))
    assert_is_product(naive.einsum(a, b), a, b, contiguous=False)
    assert naive.einsum(a, b).is_contiguous() == torch.einsum("ik,kj->ij", a, b).is_contiguous()


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_gradient_flows(product):
    a, b = (matrix(rows, 3, torch.float64, "contiguous", rows) for rows in (2, 3))
    a.requires_grad_()
    product(a, b).sum().backward()
    torch.testing.assert_close(a.grad, b.sum(dim=1).expand(2, 3))
