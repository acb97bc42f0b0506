"""What ends a fit early: no improvement, a loss that is not finite, or a single batch seen."""

from __future__ import annotations

import math
from typing import Any

from lib.learner.callback import Callback, CancelFit, CancelPass, LearnerState


class EarlyStopping(Callback):
    """End the fit once `metric` of the log has not improved by `min_delta` for `patience` epochs."""

    order = 80
    whole_fit = True

    def __init__(
        self, metric: str = "valid_loss", *, patience: int = 3, min_delta: float = 0.0, larger_is_better: bool = False
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {patience}")
        self.metric, self.patience, self.min_delta = metric, patience, min_delta
        self.sign = -1 if larger_is_better else 1
        self.best, self.waited = math.inf, 0

    def before_fit(self, learn: LearnerState) -> None:
        self.best, self.waited = math.inf, 0

    def after_epoch(self, learn: LearnerState) -> None:
        if self.metric not in learn.log:
            raise ValueError(
                f"early stopping monitors {self.metric!r}, the log has {', '.join(learn.log) or 'no entry'}"
            )
        value = self.sign * learn.log[self.metric]
        better = value < self.best - self.min_delta
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)

    def before_epoch(self, learn: LearnerState) -> None:
        if self.waited >= self.patience:  # here, after all callbacks have handled the end of the epoch before
            raise CancelFit

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class TerminateOnNaN(Callback):
    """Raise FloatingPointError, with epoch, batch and learning rate, where a training loss is not finite."""

    order = -5
    whole_fit = True

    def after_loss(self, learn: LearnerState) -> None:
        if learn.training and not math.isfinite(loss := learn.loss_value.item()):
            lr = learn.optimiser.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the loss is {loss} at epoch {learn.epoch}, batch {learn.batch_index}, learning rate {lr:.3g}"
            )


class SingleBatch(Callback):
    """One training batch, one validation batch and the end: does it run at all?"""

    order = 200  # after all other callbacks
    whole_fit = True

    def after_batch(self, learn: LearnerState) -> None:
        raise CancelPass

    def after_epoch(self, learn: LearnerState) -> None:
        raise CancelFit
