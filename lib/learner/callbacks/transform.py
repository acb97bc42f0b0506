"""Each batch mapped by a function before the model sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib.learner.callback import Callback, LearnerState


class BatchTransform(Callback):
    """Map each batch, training and validation by default: `function(batch) -> batch`."""

    order = -50

    def __init__(self, function: Callable[[Any], Any], *, train: bool = True, valid: bool = True) -> None:
        self.function, self.train, self.valid = function, train, valid

    def before_batch(self, learn: LearnerState) -> None:
        if self.train if learn.training else self.valid:
            learn.batch = self.function(learn.batch)
