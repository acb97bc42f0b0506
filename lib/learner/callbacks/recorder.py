"""What happened in a fit: the loss, rate and momentum of each batch, the figures of each epoch, and their plot."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lib import plots
from lib.learner.callback import Callback, LearnerState


class Recorder(Callback):
    """Keep of each training batch `losses`, `lrs` and `momenta`, and of each epoch a row of `history`.

    A row holds the epoch, the log, the number of batches until its end and the seconds that it took.
    """

    order = 60
    whole_fit = True

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.momenta: list[float] = []
        self.history: list[dict[str, float]] = []
        self._recent: list[torch.Tensor] = []

    def before_fit(self, learn: LearnerState) -> None:
        self._clear()
        group = learn.optimiser.param_groups[0]
        self._momentum = next((key for key in ("betas", "momentum") if key in group), None)

    def before_epoch(self, learn: LearnerState) -> None:
        self._started = time.perf_counter()

    def after_loss(self, learn: LearnerState) -> None:
        if not learn.training:
            return
        self._recent.append(learn.loss_value.detach())  # read at the end of the epoch: reading waits for a GPU
        group = learn.optimiser.param_groups[0]
        self.lrs.append(group["lr"])
        if self._momentum == "betas":
            self.momenta.append(group["betas"][0])
        elif self._momentum:
            self.momenta.append(group["momentum"])

    def after_epoch(self, learn: LearnerState) -> None:
        self.cleanup_epoch(learn)
        seconds = time.perf_counter() - self._started
        self.history.append({"epoch": learn.epoch, **learn.log, "batches": len(self.losses), "seconds": seconds})

    def cleanup_epoch(self, learn: LearnerState) -> None:
        self.losses += [loss.item() for loss in self._recent]
        self._recent = []

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"losses": self.losses, "lrs": self.lrs, "momenta": self.momenta, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def plot(self, smooth: float = 0.9) -> Figure:
        """Draw the loss of each batch, smoothed, with the validation loss; and the rate and momentum."""
        if not self.losses:
            raise ValueError("nothing was recorded: give the recorder to a learner and fit it")
        figure = Figure(figsize=(6.5, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        batches = np.arange(1, len(self.losses) + 1)
        left.plot(batches, self.losses, color=plots.FAINT, linewidth=0.7)
        left.plot(batches, _smoothed(self.losses, smooth), label="training, smoothed")
        rows = [row for row in self.history if "valid_loss" in row]
        valid = [row["valid_loss"] for row in rows]
        if rows:
            ends = [row["batches"] for row in rows]
            left.plot(ends, valid, "o-", color=plots.ORANGE, markersize=4, label="validation")
        seen = [loss for loss in (*_smoothed(self.losses, smooth), *valid) if math.isfinite(loss)]
        left.set(xlabel="batch", ylabel="loss", ylim=(1.15 * min(0, 0, *seen), 1.15 * max(0, 0, *seen) or 1))
        left.legend()
        right.plot(batches, np.divide(self.lrs, max(self.lrs) or 1), label=f"rate, of {max(self.lrs):.2g}")
        if self.momenta:
            right.plot(batches, self.momenta, color=plots.ORANGE, label="momentum")
        right.set(xlabel="batch", ylim=(0, 1.5), yticks=(0, 0.5, 1))
        right.legend(loc="upper right")
        return figure


def _smoothed(values: list[float], smooth: float) -> list[float]:
    """Return exponentially weighted means, corrected for their start (Kingma and Ba 2015, section 3)."""
    mean, out = 0.0, []
    for i, value in enumerate(values, 1):
        mean = smooth * mean + (1 - smooth) * value
        out.append(mean / (1 - smooth**i))
    return out
