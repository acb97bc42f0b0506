"""Recorded activations or gradients: means, standard deviations, colour plots, and the share that is dead."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from lib.nn.hooks import Statistics
from lib.plots.style import SEQUENTIAL


def plot_means(statistics: Iterable[Statistics]) -> Figure:
    """Draw the mean and the standard deviation of each module, batch by batch; a healthy net holds 0 and 1."""
    statistics = _seen(statistics)
    figure = Figure(figsize=(6.5, 2.8), layout="constrained")
    axes = figure.subplots(1, 2)
    colours = SEQUENTIAL(np.linspace(0.35, 1, len(statistics)))
    for layer, colour in zip(statistics, colours, strict=True):
        axes[0].plot(layer.means, color=colour, linewidth=1.2, label=layer.name)
        axes[1].plot(layer.stds, color=colour, linewidth=1.2)
    axes[0].set(title="mean", xlabel="batch")
    axes[1].set(title="standard deviation", xlabel="batch")
    axes[1].set_ylim(bottom=0)
    figure.legend(loc="outside right center", title="layer", fontsize=8)
    return figure


def plot_histograms(statistics: Iterable[Statistics], columns: int = 3) -> Figure:
    """Draw the classic colour plots: a column for each batch, a row for each size, dark where many values lie."""
    statistics = _seen(statistics)
    columns = min(columns, len(statistics))
    rows = -(-len(statistics) // columns)
    figure = Figure(figsize=(6.5, 1.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in grid.flat[len(statistics) :]:
        ax.set_axis_off()
    for ax, layer in zip(grid.flat, statistics, strict=False):
        counts = layer.histogram().log1p().numpy()
        ax.imshow(
            counts,
            origin="lower",
            aspect="auto",
            cmap=SEQUENTIAL,
            extent=(0, counts.shape[1], 0, layer.max_value),
            interpolation="nearest",
        )
        ax.set_title(layer.name, fontsize=9)
    figure.supxlabel("batch", fontsize=10)
    figure.supylabel("size of the activation", fontsize=10)
    return figure


def plot_dead(statistics: Iterable[Statistics]) -> Figure:
    """Draw the share of activations that are nearly zero, batch by batch, for each module."""
    statistics = _seen(statistics)
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    ax = figure.subplots()
    for layer, colour in zip(statistics, SEQUENTIAL(np.linspace(0.35, 1, len(statistics))), strict=True):
        ax.plot(layer.dead, color=colour, linewidth=1.2, label=layer.name)
    ax.set(xlabel="batch", ylabel="share nearly zero", ylim=(0, 1))
    figure.legend(loc="outside right center", title="layer", fontsize=8)
    return figure


def _seen(statistics: Iterable[Statistics]) -> list[Statistics]:
    statistics = list(statistics)
    if not any(layer.means for layer in statistics):
        raise ValueError("the statistics have seen no batch: run the model while the hooks are on")
    return statistics
