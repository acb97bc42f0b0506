"""Callbacks that steer a fit: clipping, averaged weights, early stop, stop at NaN, a single batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.learner.events import Callback, CancelFit, CancelPass

if TYPE_CHECKING:
    from lib.learner.learner import Learner


class SingleBatch(Callback):
    """One training batch, one validation batch and the end: does it run at all?"""

    order = 200  # after everyone has seen the batch
    whole_fit = True

    def after_batch(self, learn: Learner) -> None:
        raise CancelPass

    def after_epoch(self, learn: Learner) -> None:
        raise CancelFit


class ClipGradients(Callback):
    """Scale all gradients together so that their norm is at most `max_norm` (Pascanu 2013, arXiv 1211.5063)."""

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def before_step(self, learn: Learner) -> None:
        nn.utils.clip_grad_norm_(learn.model.parameters(), self.max_norm)


class EMA(Callback):
    """Average the weights over the steps, validate with the average, and end the fit with it.

    average <- decay * average + (1 - decay) * weights (Polyak and Juditsky 1992), where `decay` grows to its value as
    min(decay, (1 + n) / (10 + n)) over the first n steps. Buffers are copied, not averaged.
    """

    order = 50
    whole_fit = True

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.steps = 0
        self.averages: list[Tensor] = []
        self._raw: list[list[Tensor]] = []

    def before_fit(self, learn: Learner) -> None:
        self.steps = 0
        self.averages = [p.detach().clone() for p in learn.model.parameters()]

    @torch.no_grad()
    def after_step(self, learn: Learner) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, [p.detach() for p in learn.model.parameters()], 1 - decay)

    def before_valid(self, learn: Learner) -> None:
        if self.averages:
            self._raw.append([p.detach().clone() for p in learn.model.parameters()])
            self._put(learn.model, self.averages)

    def cleanup_valid(self, learn: Learner) -> None:
        if self._raw:
            self._put(learn.model, self._raw.pop())

    def after_fit(self, learn: Learner) -> None:
        self._put(learn.model, self.averages)

    def cleanup_fit(self, learn: Learner) -> None:
        self.averages = []  # from here on the model is what `evaluate` looks at

    @staticmethod
    @torch.no_grad()
    def _put(model: nn.Module, values: list[Tensor]) -> None:
        torch._foreach_copy_([p.detach() for p in model.parameters()], values)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"steps": self.steps, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        torch._foreach_copy_(self.averages, state["averages"])


class EarlyStop(Callback):
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

    def before_fit(self, learn: Learner) -> None:
        self.best, self.waited = math.inf, 0

    def after_epoch(self, learn: Learner) -> None:
        if self.metric not in learn.log:
            raise ValueError(f"early stop watches {self.metric!r}, the log has {', '.join(learn.log) or 'nothing'}")
        value = self.sign * learn.log[self.metric]
        better = value < self.best - self.min_delta
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)

    def before_epoch(self, learn: Learner) -> None:
        if self.waited >= self.patience:  # here, so that everyone has seen the end of the epoch before
            raise CancelFit

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class StopAtNaN(Callback):
    """Raise FloatingPointError, with epoch, batch and rate, before a loss that is not finite reaches the weights."""

    order = -5
    whole_fit = True

    def after_loss(self, learn: Learner) -> None:
        if learn.training and not math.isfinite(loss := learn.loss_value.item()):
            rate = learn.optimiser.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the loss is {loss} at epoch {learn.epoch}, batch {learn.batch_index}, learning rate {rate:.3g}"
            )
