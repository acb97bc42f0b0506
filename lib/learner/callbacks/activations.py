"""Activation statistics of the training batches of a fit."""

from __future__ import annotations

from collections.abc import Iterable

from lib.learner.callback import Callback, LearnerState
from lib.nn.hooks import ActivationStatistics, Statistics


class ActivationStats(Callback):
    """Record the outputs of modules while a fit trains: `statistics` holds what `lib.plots.activations` draws.

    `every` records one batch of so many: it takes time, about as much as the pass of a small net. The
    hooks end with the fit.
    """

    whole_fit = True

    def __init__(
        self, modules: Iterable, *, every: int = 1, bins: int = 40, max_value: float = 10.0, backward: bool = False
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self.modules = list(modules.items() if isinstance(modules, dict) else modules)
        self.options = {"bins": bins, "max_value": max_value, "backward": backward}
        self.statistics: list[Statistics] = []
        self._hooks: ActivationStatistics | None = None

    def before_fit(self, learn: LearnerState) -> None:
        self._hooks = ActivationStatistics(self.modules, recording=False, **self.options)
        self.statistics = self._hooks.statistics

    def before_batch(self, learn: LearnerState) -> None:
        self._hooks.recording = learn.training and learn.batch_index % self.every == 0

    def cleanup_train(self, learn: LearnerState) -> None:
        if self._hooks is not None:
            self._hooks.recording = False

    def cleanup_fit(self, learn: LearnerState) -> None:
        hooks, self._hooks = self._hooks, None
        if hooks is not None:
            hooks.remove()
