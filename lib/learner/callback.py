"""What a callback is: what it may use of a learner, in which order callbacks run, and how one ends a phase early."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from lib.data.loaders import DataLoaders


class LearnerState(Protocol):
    """What a callback may read of a learner, and change: no more, so that the learner may know callbacks by name."""

    model: nn.Module
    data: DataLoaders
    loss: Callable[[Any, Any], Tensor]
    optimiser: Optimizer
    active_callbacks: list[Callback]  # the learner's own, and those given to this fit
    training: bool
    loader: Iterable  # of this pass
    batch: Any
    preds: Any
    loss_value: Any
    log: dict[str, float]  # the epoch's figures
    epoch: int
    epochs: int
    batch_index: int
    step_count: int  # training batches that were begun

    @property
    def stage(self) -> str:
        """What the pass is for: "train" or "valid"."""

    @property
    def inputs(self) -> tuple:
        """What the model is called with: all of a batch but its last part."""

    @property
    def targets(self) -> Any:
        """The last part of a batch of two or more parts."""

    @property
    def progress(self) -> float:
        """How much of the fit's training batches are done, from 0 to 1."""


class Callback:
    """Something whose methods, named after `EVENTS`, a learner calls: each takes (self, learn).

    Callbacks are called by ascending `order`, those of one order as they were given. `cleanup_` methods are called in
    reverse order and always, also where the matching `before_` was not. A step (`predict`, `loss`, `backward`, `step`,
    `zero_grad`) that a callback defines replaces the learner's own. `whole_fit` marks what observes or steers a whole
    fit: `lr_find` leaves such callbacks out, and so do `evaluate`, `predict` and `capture`, but for `Metrics`.
    """

    order: int = 0
    whole_fit: bool = False


class Cancel(Exception):
    """End a phase early; its `after_` event is still dispatched, unless its `before_` event raised this."""


class CancelFit(Cancel):
    """End the fit."""


class CancelEpoch(Cancel):
    """End this epoch, its training and its validation pass."""


class CancelPass(Cancel):
    """End this pass over a loader, training or validation."""


class CancelBatch(Cancel):
    """Leave the rest of this batch, and no gradients for the next: one that is not finite would poison its step.

    The same holds where a batch is left with its pass, its epoch or its fit.
    """


class CancelStep(Cancel):
    """Leave the step out, and keep the gradients: those of the next batch are added to them.

    Raised in `before_step` for all batches but each fourth, it makes one step of four.
    """


def name_of(callback: object) -> str:
    """Return what errors call a callback."""
    return type(callback).__name__
