"""What is measured in each pass: averages over all items, our own or any object with `update` and `compute`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lib.learner.callback import Callback, LearnerState


class Mean:
    """The mean over all items of a value that is given batch by batch, kept on its device."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0
        self._pending: list[Tensor | float] = []
        self._sizes: list[int] = []

    def update(self, value: Tensor | float, n: int = 1) -> None:
        """Add the mean `value` of n items."""
        self._pending.append(value)
        self._sizes.append(n)
        if len(self._pending) == MAX_PENDING:
            self._add_up()

    def _add_up(self) -> None:
        """Add the pending values to the total: many at once, as each tensor operation costs microseconds of its own."""
        values = torch.stack([_tensor(value) for value in self._pending]).flatten()
        if values.itemsize < 4:
            values = values.float()  # a sum over many items needs more digits than half precision has
        sizes = torch.tensor(self._sizes, dtype=values.dtype, device=values.device)
        self.total, self.count = self.total + values @ sizes, self.count + sum(self._sizes)
        self._pending, self._sizes = [], []

    def compute(self) -> float:
        if self._pending:
            self._add_up()
        return float(self.total) / self.count if self.count else float("nan")


class Accuracy:
    """The share of predictions [n, classes, ...] whose largest entry is the target [n, ...], from 0 to 1.

    Of targets that are probabilities [n, classes, ...], as mixup makes them, the largest counts.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.correct, self.count = 0, 0

    def update(self, preds: Tensor, targets: Tensor) -> None:
        if preds.shape == targets.shape and preds.ndim > 1 and (targets >= 0).all():
            targets = targets.argmax(1)
        if preds.ndim < 2 or (largest := preds.argmax(1)).shape != targets.shape:
            shapes = f"{list(preds.shape)} and {list(targets.shape)}"
            raise ValueError(f"accuracy needs predictions [n, classes, ...] and targets [n, ...], got {shapes}")
        self.correct = self.correct + (largest == targets).sum()
        self.count += targets.numel()

    def compute(self) -> float:
        return float(self.correct) / self.count if self.count else float("nan")


class MeanOf(Mean):
    """The mean over all items of a function of predictions and targets that is a mean over a batch."""

    def __init__(self, function: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.function = function

    def update(self, preds: Tensor, targets: Any) -> None:
        with torch.no_grad():
            super().update(self.function(preds, targets), len(preds))


class Metrics(Callback):
    """Log the loss and each named metric of each pass, as `learn.log["train_loss"]`, `learn.log["valid_accuracy"]`...

    A metric is an object with `update(predictions, targets)`, `compute()` and `reset()`, as those of torcheval and
    torchmetrics are, or a function of both.
    """

    order = -10  # logged before other callbacks read it
    whole_fit = True

    def __init__(self, **metrics: Any) -> None:
        if "loss" in metrics:
            raise ValueError("the loss is always logged: name the metric something else")
        for name, metric in metrics.items():
            if isinstance(metric, type):
                raise TypeError(f"metric {name!r}: expected an object, got the class {metric.__name__}: call it")
            if not callable(metric) and not all(callable(getattr(metric, part, None)) for part in PARTS):
                raise TypeError(f"metric {name!r}: expected a function or update, compute and reset, got {metric!r}")
        self.mean_loss = Mean()
        self.metrics = {name: _metric(metric) for name, metric in metrics.items()}

    def before_train(self, learn: LearnerState) -> None:
        self.mean_loss.reset()
        for metric in self.metrics.values():
            metric.reset()

    before_valid = before_train

    def after_loss(self, learn: LearnerState) -> None:
        self.mean_loss.update(learn.loss_value.detach(), _size(learn.batch))
        if self.metrics:
            preds, targets = learn.preds, learn.targets
            preds = preds.detach() if isinstance(preds, Tensor) else preds
            for metric in self.metrics.values():
                metric.update(preds, targets)

    def after_train(self, learn: LearnerState) -> None:
        learn.log[f"{learn.stage}_loss"] = self.mean_loss.compute()
        for name, metric in self.metrics.items():
            learn.log[f"{learn.stage}_{name}"] = float(metric.compute())

    after_valid = after_train


MAX_PENDING = 64
PARTS = ("update", "compute", "reset")
PARTED = (Tensor, tuple, list, dict)


def _tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _metric(metric: Any) -> Any:
    return metric if all(hasattr(metric, part) for part in PARTS) else MeanOf(metric)


def _size(batch: Any) -> int:
    """Return the number of items of a batch: the length of its first part."""
    while not isinstance(batch, Tensor):
        first = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
        if not isinstance(first, PARTED):
            return len(batch)  # a list of items
        batch = first
    return batch.shape[0]
