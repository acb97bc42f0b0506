"""What a distance weighs."""

import math

import pytest
import torch

from lib.cluster.kernels import KERNELS

DISTANCES = torch.tensor([0.0, 0.5, 1.0, 1.25, 2.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("bandwidth", [0.25, 1.0, 4.0])
@pytest.mark.parametrize(
    ("kernel", "weights"),
    [
        ("gaussian", [1, math.exp(-1 / 8), math.exp(-1 / 2), math.exp(-25 / 32), math.exp(-2), math.exp(-81 / 2)]),
        ("flat", [1, 1, 1, 0, 0, 0]),
        ("triangular", [1, 0.5, 0, 0, 0, 0]),
    ],
)
def test_a_kernel_weighs_distances_in_bandwidths(kernel, weights, bandwidth):
    squared = (DISTANCES * bandwidth).square()
    before = squared.clone()
    found = KERNELS[kernel](squared, bandwidth)
    assert found.tolist() == pytest.approx(weights, rel=1e-14)
    assert found.dtype == torch.float64
    assert torch.equal(squared, before)
