"""Progress as lines of a log, for a fit that takes hours."""

from __future__ import annotations

import time
from collections.abc import Callable

from lib.learner.callback import Callback, LearnerState


class LogProgress(Callback):
    """Log the progress of a fit, a line at a time: after each epoch, and every `every` batches where that is given."""

    whole_fit, order = True, 95

    def __init__(self, say: Callable[[str], None], every: int | None = None) -> None:
        self.say, self.every, self.start = say, every, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the fit has taken, including the time before an interruption."""
        return time.monotonic() - self.start

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.start = time.monotonic() - state["seconds"]

    def after_batch(self, learn: LearnerState) -> None:
        if self.every and learn.training and learn.batch_index % self.every == 0:
            loss = learn.loss_value.item()
            self.say(f"epoch {learn.epoch + 1}, batch {learn.batch_index + 1}: loss {loss:.4f}, {self.seconds:.0f} s")

    def after_epoch(self, learn: LearnerState) -> None:
        metrics = ", ".join(f"{key} {value:.4f}" for key, value in learn.log.items())
        self.say(f"epoch {learn.epoch + 1} of {learn.epochs}: {metrics}")
