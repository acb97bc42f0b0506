"""A Gaussian step by a grid of the density against one that looks at all of the data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.backends import full, grid
from lib.cluster.mean_shift import mean_shift
from tests.cluster.blobs import blobs

SIDES = {1: 400.0, 2: 25.0, 3: 4.0}  # of a box, in bandwidths, that takes moments by d


def steps(data, points, bandwidth):
    """Return where the points move and the weights they see: by the grid, then in full."""
    return *grid.shift(data, bandwidth)(points), *full.shift(data, bandwidth, "gaussian", len(points))(points)


@pytest.mark.parametrize("d", [1, 2, 3])
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 100),
    bandwidth=st.floats(0.01, 100.0),
    seed=st.integers(0, 2**16),
    side=st.floats(0.0, 1.0),
    offset=st.floats(-1000.0, 1000.0),
)
def test_one_step_is_within_a_ten_thousandth_of_a_bandwidth(d, n, bandwidth, seed, side, offset):
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(n, d, dtype=torch.float64, generator=generator) * side * SIDES[d] * bandwidth + offset
    moved, weight, theirs, their_weight = steps(data, data, bandwidth)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-4 * bandwidth)
    torch.testing.assert_close(weight, their_weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("d", "far"), [(1, 20_000.0), (2, 150.0), (3, 12.0)])
def test_one_step_is_as_near_with_outliers_far_away(d, far):
    data = blobs(300, d, box=3.0)
    data[0], data[-1] = -far / 2, far / 2
    moved, weight, theirs, their_weight = steps(data, data, 1.0)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(weight, their_weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved[[0, -1]], data[[0, -1]], rtol=0, atol=1e-4)


def test_one_step_is_as_near_when_the_data_are_many_and_dense():
    data = blobs(5000, 2, spread=1.0)
    moved, _, theirs, _ = steps(data, data[:200], 1.0)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_constant_column_stays_and_costs_few_nodes(column):
    data = blobs(40, 3, box=3.0)
    data[:, column] = 7.7
    moved, _, theirs, _ = steps(data, data, 0.8)
    torch.testing.assert_close(moved, theirs, rtol=0, atol=1e-4)
    assert grid.count_nodes(data, 0.8) <= 9 * grid.count_nodes(data[:, [i for i in range(3) if i != column]], 0.8)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_grid_holds_the_data_once_and_has_the_nodes_foretold(d, monkeypatch):
    data, grids, correlate = blobs(50, d, box=4.0), [], grid.correlate1d

    def count(counts, *rest, **options):
        grids.append(counts.copy())
        return correlate(counts, *rest, **options)

    monkeypatch.setattr(grid, "correlate1d", count)
    grid.shift(data, 0.9)
    assert grids[0].size == grid.count_nodes(data, 0.9)
    assert grids[0].sum() == pytest.approx(50, rel=1e-9)


def test_points_between_the_data_are_read_as_well():
    data = blobs(200, 2, box=12.0, spread=0.2)
    points = (data + data.flip(0)) / 2
    moved, weight, theirs, their_weight = steps(data, points, 0.5)
    seen = their_weight > 0.6
    assert 20 < seen.sum() < 200
    torch.testing.assert_close(weight, their_weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[seen], theirs[seen], rtol=0, atol=1e-4)


def test_a_point_that_sees_nothing_stays_and_has_no_negative_weight():
    data = torch.tensor([[0.0, 0.0], [20.0, 20.0]], dtype=torch.float64)
    points = torch.linspace(3, 17, 500, dtype=torch.float64)[:, None].expand(-1, 2).contiguous()
    moved, weight = grid.shift(data, 1.0)(points)
    assert torch.equal(moved, points)
    assert weight.min() == 0
    assert weight.max() < 1e-3


@pytest.mark.parametrize("d", [1, 2, 3])
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**16), outliers=st.booleans())
def test_the_ends_are_within_a_thousandth_of_a_bandwidth(d, seed, outliers):
    data = blobs(700, d, seed=seed, spread=0.3, box=3.0)
    if outliers:
        data[:2] = torch.tensor([[-2.0], [6.0]])
    ours = mean_shift(data, 0.9, tol=1e-6, max_iter=3000)
    theirs = mean_shift(data, 0.9, tol=1e-6, max_iter=3000, algorithm="full")
    assert (ours.algorithm, theirs.algorithm) == ("grid", "full")
    torch.testing.assert_close(ours.ends, theirs.ends, rtol=0, atol=1e-3 * 0.9)


@pytest.mark.parametrize("far", [5.0, 6.05, 6.5, 7.0])
def test_a_crowd_just_in_sight_of_one_point_is_not_cut_off(far):
    data = torch.cat([torch.zeros(1_000_000, 1), torch.tensor([[far]])]).double()
    lonely = data[-1:]
    ours, theirs = (make(lonely)[0] for make in (grid.shift(data, 1.0), full.shift(data, 1.0, "gaussian", 1)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_four_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"grid.* 3 dim.*\[5, 4\]"):
        grid.shift(torch.zeros(5, 4, dtype=torch.float64), 1.0)


def test_a_step_changes_neither_data_nor_points():
    data, points = blobs(seed=1), blobs(seed=1) + 0.01
    kept = data.clone(), points.clone()
    grid.shift(data, 1.0)(points)
    assert torch.equal(data, kept[0])
    assert torch.equal(points, kept[1])
