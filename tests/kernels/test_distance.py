"""Distances against torch.cdist in float64, and memory against its limit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lib.kernels import distance
from tests.kernels.products import LAYOUTS, matrix


@pytest.mark.parametrize("method", distance.METHODS)
@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 9)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layout=st.sampled_from(LAYOUTS),
    rows=st.integers(1, 12),
)
def test_any_shape_dtype_layout_and_chunk(method, sizes, dtype, layout, rows):
    n, m, d = sizes
    x, y = matrix(n, d, dtype, layout, 1), matrix(m, d, dtype, layout, 2)
    found = distance.pairwise(x, y, method, memory_limit=rows * 16 * (d + 2) * (m + 2) * 8)
    assert found.shape == (n, m)
    assert found.dtype == dtype
    # The expanded form is exact to a rounding of the squared lengths, so to the root of one in the distance.
    tolerance = 20 * torch.finfo(dtype).eps ** (0.5 if method == "expanded" else 1)
    torch.testing.assert_close(found.double(), torch.cdist(x.double(), y.double()), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("method", distance.METHODS)
def test_a_chunk_changes_nothing(method):
    x, y = matrix(50, 7, torch.float64, "contiguous", 1), matrix(40, 7, torch.float64, "contiguous", 2)
    small = distance.pairwise(x, y, method, memory_limit=6000)
    torch.testing.assert_close(small, distance.pairwise(x, y, method), rtol=1e-12, atol=1e-12)


class Allocated(TorchDispatchMode):
    """Notes how many bytes stand behind each tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.sizes.add(result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("method", distance.METHODS)
def test_what_is_held_stays_within_the_memory_limit(method):
    x, y = torch.rand(300, 16), torch.rand(100, 16)
    inputs_and_result = {300 * 16 * 4, 100 * 16 * 4, 300 * 100 * 4}
    with Allocated() as allocated:
        distance.pairwise(x, y, method, memory_limit=40_000)
    assert 300 * 100 * 4 in allocated.sizes
    assert 10_000 < max(allocated.sizes - inputs_and_result) <= 40_000


def test_the_expanded_form_never_gives_nan_and_loses_digits_far_from_the_origin():
    x = torch.rand(30, 8) + 1000
    expanded, exact = distance.pairwise(x, x, "expanded"), torch.cdist(x.double(), x.double()).float()
    assert not expanded.isnan().any()
    assert (distance.pairwise(x, x, "einsum") - exact).abs().max() < 1e-5
    assert (expanded - exact).abs().max() > 1e-2


@pytest.mark.parametrize("method", distance.METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_a_distance_whose_square_overflows_is_right(method, dtype):
    x, y = torch.tensor([[400.0, 0.0], [0.0, 3.0]], dtype=dtype), torch.tensor([[0.0, 300.0]], dtype=dtype)
    found = distance.pairwise(x, y, method)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), torch.tensor([[500.0], [297.0]]), rtol=0.01, atol=0)
