"""The plots of activation statistics show what the hooks have seen."""

import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from lib.nn.hooks import ActivationStatistics, Statistics
from lib.plots.activations import plot_dead, plot_histograms, plot_means


@pytest.fixture
def watched():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), block, nn.Linear(8, 2))
    with ActivationStatistics(net, bins=8, max_value=3.0) as watched:
        for seed in range(5):
            net(torch.randn(6, 5, generator=torch.Generator().manual_seed(seed)))
    return watched.statistics


def test_means_and_standard_deviations_have_a_line_for_each_module(watched):
    means, stds = plot_means(watched).axes
    assert [list(line.get_ydata()) for line in means.lines] == [layer.means for layer in watched]
    assert [list(line.get_ydata()) for line in stds.lines] == [layer.stds for layer in watched]
    assert [means.get_title("left"), stds.get_title("left")] == ["mean", "standard deviation"]
    assert len({tuple(line.get_color()) for line in means.lines}) == 4


def test_the_dead_have_a_line_for_each_module(watched):
    figure = plot_dead(watched)
    (ax,) = figure.axes
    assert [list(line.get_ydata()) for line in ax.lines] == [layer.dead for layer in watched]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [layer.name for layer in watched]


def test_colour_plots_have_a_panel_for_each_module_with_small_values_below(watched):
    figure = plot_histograms(watched)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == 6
    assert [ax.get_title("left") for ax in panels] == [layer.name for layer in watched]
    for ax, layer in zip(panels, watched, strict=True):
        (image,) = ax.images
        assert image.origin == "lower"
        assert image.get_extent() == [0, 5, 0, 3.0]
        assert_array_equal(image.get_array(), layer.histogram().log1p().numpy())
    assert len(plot_histograms(watched[:2], columns=1).axes) == 2


@pytest.mark.parametrize("plot", [plot_means, plot_histograms, plot_dead])
def test_nothing_seen_cannot_be_drawn(plot):
    with pytest.raises(ValueError, match=r"statistics.*hooks"):
        plot([Statistics("layer")])
    with pytest.raises(ValueError, match="layer "):
        Statistics("layer").histogram()
