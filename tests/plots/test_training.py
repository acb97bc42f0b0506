"""The plots of a fit and of a learning-rate finder show what was recorded."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lib.plots.training import plot_fit, plot_lr_find

LOSSES = (np.geomspace(2, 0.5, 21) + np.random.default_rng(0).normal(0, 0.05, 21)).tolist()
RATES = [0.1] * 21


def smoothed(values, smooth):
    """Weigh all values by hand."""
    out = []
    for i in range(len(values)):
        powers = [smooth ** (i - j) for j in range(i + 1)]
        out.append(sum(w * v for w, v in zip(powers, values[: i + 1], strict=True)) / sum(powers))
    return out


def test_the_plot_shows_losses_rates_and_momenta():
    history = [{"epoch": i, "valid_loss": 2.0 - i / 2, "batches": 7 * (i + 1)} for i in range(3)]
    left, right = plot_fit(LOSSES, RATES, [0.9] * 21, history, smooth=0.8).axes
    batches, mean, valid = left.lines
    assert list(batches.get_ydata()) == LOSSES
    assert_allclose(mean.get_ydata(), smoothed(LOSSES, 0.8))
    assert list(valid.get_xdata()) == [7, 14, 21]
    assert list(valid.get_ydata()) == [2.0, 1.5, 1.0]
    assert left.get_ylim()[0] == 0
    assert left.get_ylim()[1] > max(valid.get_ydata())
    lr, momentum = right.lines
    assert list(lr.get_ydata()) == [1.0] * 21
    assert list(momentum.get_ydata()) == [0.9] * 21


def test_without_momentum_and_validation_there_are_no_lines_of_them():
    left, right = plot_fit(LOSSES, RATES, history=[{"epoch": 0, "batches": 21}]).axes
    assert [len(left.lines), len(right.lines)] == [2, 1]


@pytest.mark.parametrize("shift", [math.nan, math.inf, -5.0])
def test_losses_that_are_not_finite_or_below_zero_can_be_drawn(shift):
    losses = [loss + shift for loss in LOSSES]
    low, high = plot_fit(losses, RATES).axes[0].get_ylim()
    assert low < high
    assert low < min(smoothed(losses, 0.9)) if shift == -5 else low == 0


def test_nothing_recorded_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"recorder.*fit"):
        plot_fit([], [])


def test_the_plot_of_a_finder_marks_the_suggestion():
    lrs, means = np.geomspace(1e-4, 1, 21).tolist(), smoothed(LOSSES, 0.9)
    (ax,) = plot_lr_find(lrs, LOSSES, means, lrs[9]).axes
    assert ax.get_xscale() == "log"
    batch, line, mark = ax.lines
    assert list(batch.get_xdata()) == lrs
    assert list(batch.get_ydata()) == LOSSES
    assert list(line.get_ydata()) == means
    assert set(mark.get_xdata()) == {lrs[9]}
    (ax,) = plot_lr_find([0.1, 0.2], [1.0, 2.0], [1.0, 2.0], 0.1).axes  # a loss that only grows
    assert ax.get_ylim()[0] < ax.get_ylim()[1]
