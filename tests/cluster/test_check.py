"""What clustering does not take is refused in words that name it."""

import math

import pytest
import torch

from lib.cluster import check
from lib.cluster.bandwidth import estimate_bandwidth
from lib.cluster.mean_shift import mean_shift

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("function", [lambda x: mean_shift(x, 1.0), estimate_bandwidth])
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.ones(0, 2), ValueError, ["at least one row", "[0, 2]"]),
        (torch.ones(3, 0), ValueError, ["one column", "[3, 0]"]),
        (torch.ones(3), ValueError, ["[n, d]", "[3]"]),
        (torch.ones(2, 3, 4), ValueError, ["[n, d]", "[2, 3, 4]"]),
        (torch.tensor([[1.0, 2.0], [NAN, NAN], [3.0, INF]]), ValueError, ["NaN or infinity", "2 of 3 rows"]),
        (torch.tensor([[1.0], [-INF]]), ValueError, ["1 of 2 rows"]),
        ([[1.0, 2.0]], TypeError, ["must be a tensor", "list"]),
        (torch.ones(3, 2).numpy(), TypeError, ["must be a tensor", "ndarray"]),
        (torch.ones(3, 2, dtype=torch.bool), TypeError, ["real numbers", "torch.bool"]),
        (torch.ones(3, 2, dtype=torch.complex64), TypeError, ["real numbers", "torch.complex64"]),
    ],
)
def test_what_is_no_finite_table_is_refused(function, x, error, words):
    with pytest.raises(error) as refusal:
        function(x)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"bandwidth": value}, ["bandwidth", "positive and finite", str(value)]) for value in (0, -1.0, INF, NAN)),
        *(({"bandwidth": value}, ["from 1e-150 to 1e+150", str(value)]) for value in (1e-170, 1e200)),
        *(({"tol": value}, ["tol", "positive and finite", str(value)]) for value in (0, -1.0, INF, NAN)),
        ({"kernel": "gausian"}, ["unknown kernel 'gausian'", "mean 'gaussian'", "gaussian, flat, triangular"]),
        ({"kernel": "flatt"}, ["mean 'flat'"]),
        ({"kernel": None}, ["unknown kernel None"]),
        ({"algorithm": "near"}, ["unknown algorithm 'near'", "mean 'nearest'", "auto, full, nearest"]),
        ({"algorithm": "grid"}, ["unknown algorithm 'grid'"]),
        ({"batch_size": 0}, ["batch_size must be at least 1, got 0"]),
        ({"max_iter": 0}, ["max_iter must be at least 1, got 0"]),
        ({"max_iter": 2.5}, ["max_iter must be a whole number, got 2.5"]),
        ({"max_iter": NAN}, ["max_iter", "nan"]),
        ({"batch_size": 2.5}, ["batch_size must be a whole number, got 2.5"]),
        ({"memory_limit": 8 * (4 * 7 + 4 * 2) - 1}, ["287 bytes", "too small", "one point against 7 others needs 288"]),
    ],
)
def test_a_number_or_a_name_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        mean_shift(torch.ones(7, 2), **{"bandwidth": 1.0, **options})
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize("kernel", ["flat", "gaussian"])
@pytest.mark.parametrize("d", [4, 5])
def test_nearest_is_refused_in_many_dimensions(kernel, d):
    with pytest.raises(ValueError, match=rf"'nearest'.*CPU.* 3 dim.*\[7, {d}\] on cpu.*'full'"):
        mean_shift(torch.ones(7, d), 1.0, kernel, algorithm="nearest")


def test_good_points_come_back_in_float64_without_their_history():
    x = torch.ones(2, 3, requires_grad=True)
    found = check.points(x)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert found.tolist() == x.tolist()


@pytest.mark.parametrize("value", [2, 0.5, torch.tensor(3.0)])
def test_a_positive_number_comes_back_as_a_float(value):
    found = check.positive("bandwidth", value)
    assert type(found) is float
    assert found == value
