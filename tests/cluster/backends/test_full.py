"""A step against all of the data: its batches, its memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.cluster.backends import full
from lib.cluster.kernels import KERNELS
from tests.cluster.blobs import blobs, plain


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
def test_a_step_is_that_of_a_plain_loop(kernel, d, rows):
    x = blobs(d=d)
    moved, weight = full.shift(x, 0.8, kernel, rows)(x)
    torch.testing.assert_close(moved, plain(x, 0.8, kernel, max_iter=1)[1], rtol=0, atol=1e-12)
    sums = KERNELS[kernel](torch.cdist(x, x).square(), 0.8).sum(1)
    torch.testing.assert_close(weight, sums, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_point_that_sees_nothing_stays(kernel):
    here = torch.tensor([[900.0, -900.0], [0.0, 0.0]], dtype=torch.float64)
    moved, weight = full.shift(blobs() * 0.01, 1.0, kernel, 10)(here)
    assert moved[0].tolist() == [900, -900]
    assert weight[0] == 0 < weight[1]
    assert moved[1].abs().max() > 0


def test_digits_are_not_lost_far_from_the_origin():
    x = blobs().mul(2**20).round().div(2**20)  # so that the move below is exact
    near, _ = full.shift(x, 0.5, "gaussian", 60)(x)
    far, _ = full.shift(x + 2**24, 0.5, "gaussian", 60)(x + 2**24)
    torch.testing.assert_close(far - 2**24, near, rtol=0, atol=1e-7)


def test_the_rows_fill_the_memory():
    assert full.rows_within(8 * (4 * 100 + 4 * 3), 100, 3) == 1
    assert full.rows_within(8 * (4 * 100 + 4 * 3) * 7 + 5, 100, 3) == 7


def test_a_memory_too_small_for_one_row_is_refused_in_bytes():
    with pytest.raises(ValueError, match=r"3295.*3296"):
        full.rows_within(3295, 100, 3)


class Held(TorchDispatchMode):
    """Notes the sum of the bytes of the largest tensors, one for each operation of a batch that made a new one."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("kernel", KERNELS)
def test_four_of_the_largest_tensors_fit_in_the_memory(kernel):
    x, limit = blobs(400), 200_000
    step = full.shift(x, 0.5, kernel, full.rows_within(limit, 400, 2))
    with Held() as held:
        step(x)
    assert limit / 8 < held.largest <= limit / 4
