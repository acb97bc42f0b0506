"""How a training went: losses, learning rate and momentum of a fit, and the losses of a learning-rate finder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lib.plots.style import FAINT, GREY, ORANGE


def plot_fit(
    losses: Sequence[float],
    lrs: Sequence[float],
    momenta: Sequence[float] = (),
    history: Sequence[Mapping[str, float]] = (),
    *,
    smooth: float = 0.9,
) -> Figure:
    """Draw the loss of each batch, smoothed, with the validation loss; and its learning rate and momentum.

    `history` has a row for each epoch: the number of `batches` until its end, and its `valid_loss` where there is one.
    Raises ValueError without a loss.
    """
    if not losses:
        raise ValueError("nothing was recorded: give a recorder to the learner and fit it")
    figure = Figure(figsize=(6.5, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    batches = np.arange(1, len(losses) + 1)
    smoothed = _smoothed(losses, smooth)
    left.plot(batches, losses, color=FAINT, linewidth=0.7)
    left.plot(batches, smoothed, label="training, smoothed")
    rows = [row for row in history if "valid_loss" in row]
    valid = [row["valid_loss"] for row in rows]
    if rows:
        ends = [row["batches"] for row in rows]
        left.plot(ends, valid, "o-", color=ORANGE, markersize=4, label="validation")
    finite = [loss for loss in (*smoothed, *valid) if math.isfinite(loss)]
    left.set(xlabel="batch", ylabel="loss", ylim=(1.15 * min(0, 0, *finite), 1.15 * max(0, 0, *finite) or 1))
    left.legend()
    right.plot(batches, np.divide(lrs, max(lrs) or 1), label=f"learning rate / {max(lrs):.2g}")
    if momenta:
        right.plot(batches, momenta, color=ORANGE, label="momentum")
    right.set(xlabel="batch", ylim=(0, 1.5), yticks=(0, 0.5, 1))
    right.legend(loc="upper right")
    return figure


def _smoothed(values: Sequence[float], smooth: float) -> list[float]:
    """Return exponentially weighted means, corrected for their start (Kingma and Ba 2015, section 3)."""
    mean, out = 0.0, []
    for i, value in enumerate(values, 1):
        mean = smooth * mean + (1 - smooth) * value
        out.append(mean / (1 - smooth**i))
    return out


def plot_lr_find(lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float) -> Figure:
    """Draw the losses of a learning-rate finder over its learning rates, and mark the suggestion."""
    figure = Figure(figsize=(6.5, 3.0), layout="constrained")
    ax = figure.subplots()
    ax.plot(lrs, losses, color=GREY, linewidth=0.8, label="batch")
    ax.plot(lrs, smoothed, label="smoothed")
    ax.axvline(suggestion, color=ORANGE, linestyle="--", label=f"falls fastest at {suggestion:.2g}")
    low, start = min(smoothed), smoothed[0]
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - 0.1 * abs(low), start + (start - low)))
    ax.legend()
    return figure
