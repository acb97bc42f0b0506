"""The learning-rate finder: let the rate grow batch by batch and record the loss (Smith 2017, arXiv 1506.01186)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lib.learner.callback import Callback, CancelFit, CancelPass, LearnerState
from lib.learner.callbacks.schedules import set_lr

SMOOTH = 0.9
DIVERGED = 4.0


@dataclass(frozen=True)
class LRFinderResult:
    """Learning rates, the loss before a step with each, smoothed as well, and the rate at which that falls fastest.

    With parameter groups of different rates, the largest of them: what `Learner.fit` takes as `lr`.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


class LRFinder(Callback):
    """Multiply the learning rate after each batch; end when the smoothed loss has quadrupled or the steps are done."""

    order = 100

    def __init__(self, start: float, stop: float, steps: int) -> None:
        if not 0 < start < stop < math.inf or steps < 2:
            raise ValueError(f"expected 0 < start < stop and steps of at least 2, got {start}, {stop} and {steps}")
        self.lrs = np.geomspace(start, stop, steps).tolist()
        self.losses: list[float] = []
        self.smoothed: list[float] = []

    def before_batch(self, learn: LearnerState) -> None:
        set_lr(learn.optimiser, self.lrs[len(self.losses)])

    def after_loss(self, learn: LearnerState) -> None:
        loss = learn.loss_value.item()
        if not math.isfinite(loss):
            raise CancelFit
        self.losses.append(loss)
        before = self.smoothed[-1] if self.smoothed else loss
        self.smoothed.append(SMOOTH * before + (1 - SMOOTH) * loss)
        best = min(self.smoothed)
        if len(self.losses) == len(self.lrs) or self.smoothed[-1] > best + (DIVERGED - 1) * abs(best):
            raise CancelFit

    def before_valid(self, learn: LearnerState) -> None:
        raise CancelPass

    def result(self) -> LRFinderResult:
        """Return what was recorded; raises ValueError when the loss was never finite for two batches."""
        if len(self.losses) < 2:
            raise ValueError(f"the loss was not finite at the learning rate {self.lrs[len(self.losses)]:.3g}")
        lrs = self.lrs[: len(self.losses)]
        lowest = max(2, int(np.argmin(self.smoothed)) + 1)
        slopes = np.gradient(self.smoothed[:lowest], np.log(lrs[:lowest]))
        tried = slopes[:-1]  # what a step with the last rate does was not seen, or the loss rose
        return LRFinderResult(lrs, self.losses, self.smoothed, lrs[int(np.argmin(tried))])
