"""What happened in a fit: the loss, learning rate and momentum of each batch, and the figures of each epoch."""

from __future__ import annotations

import time
from typing import Any

import torch

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
        self.losses, self.lrs = state["losses"], state["lrs"]
        self.momenta, self.history = state["momenta"], state["history"]
