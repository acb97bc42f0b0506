"""Mixed precision: half the bits where that is safe, and a loss that is scaled where gradients would vanish."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lib.learner.callback import Callback, LearnerState


class MixedPrecision(Callback):
    """Predict and take the loss in bfloat16 or float16 where that is safe (Micikevicius 2018, arXiv 1710.03740).

    float16 scales the loss so that small gradients survive; bfloat16 has float32's range and needs no scale.
    """

    order = -30  # gradients are unscaled before they are clipped
    _unscaled = False  # gradients, and their step not taken yet

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"expected torch.bfloat16 or torch.float16, got {dtype}")
        self.dtype = dtype
        self.scaler: torch.amp.GradScaler | None = None
        self._cast: torch.autocast | None = None

    def before_fit(self, learn: LearnerState) -> None:
        kind = _kind(learn)
        self.scaler = torch.amp.GradScaler(kind, enabled=self.dtype == torch.float16)

    def before_predict(self, learn: LearnerState) -> None:
        self._cast = torch.autocast(_kind(learn), self.dtype)
        self._cast.__enter__()

    def after_predict(self, learn: LearnerState) -> None:
        cast, self._cast = self._cast, None
        if cast is not None:
            cast.__exit__(None, None, None)

    before_loss = before_predict
    after_loss = after_predict

    def backward(self, learn: LearnerState) -> None:
        self.scaler.scale(learn.loss_value).backward()

    def before_step(self, learn: LearnerState) -> None:
        self.scaler.unscale_(learn.optimiser)
        self._unscaled = self.scaler.is_enabled()

    def step(self, learn: LearnerState) -> None:
        self.scaler.step(learn.optimiser)  # leaves out a step whose gradients overflowed
        self.scaler.update()
        self._unscaled = False

    def cleanup_batch(self, learn: LearnerState) -> None:
        self.after_predict(learn)
        if self._unscaled:
            self._unscaled = False
            scale_again(self.scaler, learn.model)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


def scale_again(scaler: torch.amp.GradScaler, model: nn.Module) -> None:
    """Make up for gradients that were unscaled for a step that was then left out: scale those that are kept again."""
    scaler.update()
    scale = scaler.get_scale()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= scale


def _kind(learn: LearnerState) -> str:
    weight = next(learn.model.parameters(), None)
    return "cpu" if weight is None else weight.device.type
