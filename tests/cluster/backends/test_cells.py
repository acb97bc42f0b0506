"""A step that looks at the cells around against one that looks at all of the data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.backends import cells, full
from tests.cluster.blobs import blobs

CUTOFF = 5.7  # bandwidths, where a Gaussian weighs 1e-7


def steps(data, points, bandwidth, kernel):
    """Return where the points move and the weights they see: by cells, then in full."""
    cutoff = CUTOFF if kernel == "gaussian" else 1.0
    ours = cells.shift(data, bandwidth, kernel, cutoff)(points)
    return *ours, *full.shift(data, bandwidth, kernel, len(points))(points)


@pytest.mark.parametrize("kernel", ["flat", "triangular"])
@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 80),
    d=st.integers(1, 3),
    bandwidth=st.floats(0.05, 5.0),
    seed=st.integers(0, 2**16),
    constant=st.booleans(),
    far=st.sampled_from([0.0, 50.0, 1e4]),
)
def test_a_step_of_bounded_support_is_the_full_step(kernel, n, d, bandwidth, seed, constant, far):
    data = blobs(n, d, seed=seed)
    data[:, 0] = 3.3 if constant else data[:, 0]
    data[0] += far
    between = (data + data.roll(1, 0)) / 2  # where there may be nothing within the cutoff
    points = torch.cat([data, between])
    moved, weight, theirs, their_weight = steps(data, points, bandwidth, kernel)
    torch.testing.assert_close(weight, their_weight, rtol=1e-9, atol=1e-9)
    sure = (their_weight == 0) | (their_weight > 1e-4)  # a mean of almost no weight is as unsure as its weights
    torch.testing.assert_close(moved[sure], theirs[sure], rtol=1e-12, atol=1e-9 * bandwidth)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 80), d=st.integers(1, 3), bandwidth=st.floats(0.05, 2.0), seed=st.integers(0, 2**16))
def test_a_gaussian_step_leaves_out_almost_nothing(n, d, bandwidth, seed):
    data = blobs(n, d, seed=seed)
    moved, weight, theirs, their_weight = steps(data, data, bandwidth, "gaussian")
    torch.testing.assert_close(weight, their_weight, rtol=0, atol=1e-7 * n)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-6 * n * bandwidth)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("bandwidth", [1.0, 2.0, 3.0])
def test_points_at_the_very_cutoff_count(d, bandwidth):
    data = torch.cartesian_prod(*[torch.arange(7, dtype=torch.float64)] * d).view(-1, d)
    moved, weight, theirs, their_weight = steps(data, data, bandwidth, "flat")
    assert torch.equal(weight, their_weight)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bandwidth", [0.05, 0.1, 0.2, 0.25, 0.3, 0.7])
def test_points_at_the_cutoff_count_in_decimals_too(bandwidth):
    data = torch.arange(400, dtype=torch.float64)[:, None] * 0.01
    _, weight, _, their_weight = steps(data, data, bandwidth, "flat")
    assert torch.equal(weight, their_weight)


def test_cells_are_for_distances_that_rounding_leaves_alone():
    data = torch.tensor([[-1e17], [0.0], [7.9], [8.1]], dtype=torch.float64)
    assert not cells.fits(data, 1.0)
    assert cells.fits(data[1:], 1.0)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("kernel", cells.KINDS)
def test_points_off_the_grid_see_what_is_within_the_cutoff_or_stay(d, kernel):
    data = blobs(d=d, box=1.0)
    corners = torch.cartesian_prod(*[torch.tensor([-2.0, -0.4, 0.5, 1.4, 3.0, 400.0], dtype=torch.float64)] * d)
    moved, weight, theirs, their_weight = steps(data, corners.view(-1, d), 0.7, kernel)
    torch.testing.assert_close(weight, their_weight, rtol=1e-9, atol=1e-5)
    assert torch.equal(moved[weight == 0], corners.view(-1, d)[weight == 0])
    sure = their_weight > 0.1
    assert sure.any()
    assert (weight == 0).any()
    torch.testing.assert_close(moved[sure], theirs[sure], rtol=0, atol=1e-4)


def test_cells_as_far_apart_as_can_be_counted_take_no_memory():
    data = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [1e6, 1e6, 1e6], [1e6, 1e6, 1e6 + 0.5]], dtype=torch.float64)
    moved, weight, theirs, _ = steps(data, data, 2.0, "flat")
    assert weight.tolist() == [2, 2, 2, 2]
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-9)


def test_a_grid_fits_up_to_three_dimensions_and_2_to_the_62():
    assert cells.fits(torch.zeros(2, 3), 1.0)
    assert not cells.fits(torch.zeros(2, 4), 1.0)
    far = torch.tensor([[0.0, 0.0], [2.0**30, 2.0**29]], dtype=torch.float64)
    assert cells.fits(far, 1.0)
    assert not cells.fits(far, 0.5)
    assert not cells.fits(torch.tensor([[-1.7e308], [1.7e308]], dtype=torch.float64), 1.0)


@pytest.mark.parametrize("data", [torch.zeros(5, 4), torch.tensor([[0.0, 0, 0], [1e9, 1e9, 1e9]])])
def test_a_grid_that_does_not_fit_is_refused(data):
    told = rf"cells.* 3 dim.*2\^62.*\[{len(data)}, {data.shape[1]}\]"
    with pytest.raises(ValueError, match=told):
        cells.shift(data.double(), 1.0, "flat")
    with pytest.raises(ValueError, match=told):
        cells.shift(data.double(), 0.1, "gaussian", 10.0)


def test_a_step_changes_neither_data_nor_points():
    data, points = blobs(seed=1), blobs(seed=2)
    kept = data.clone(), points.clone()
    cells.shift(data, 1.0, "flat")(points)
    assert torch.equal(data, kept[0])
    assert torch.equal(points, kept[1])
