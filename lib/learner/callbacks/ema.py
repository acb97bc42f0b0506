"""An exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lib.checks import wide
from lib.learner.callback import Callback, LearnerState


class EMA(Callback):
    """Average the weights over the steps, validate with the average, and end the fit with it.

    average <- decay * average + (1 - decay) * weights (Polyak and Juditsky 1992), where `decay` grows to its value as
    min(decay, (1 + n) / (10 + n)) over the first n steps. Buffers are copied, not averaged. The average is kept in
    float32 or wider: in bfloat16 one that moves by less than 1/256 of itself does not move.
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

    def before_fit(self, learn: LearnerState) -> None:
        self.steps = 0
        self.averages = [wide(p.detach()).clone() for p in learn.model.parameters()]

    @torch.no_grad()
    def after_step(self, learn: LearnerState) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, [wide(p.detach()) for p in learn.model.parameters()], 1 - decay)

    def before_valid(self, learn: LearnerState) -> None:
        if self.averages:
            self._raw.append([p.detach().clone() for p in learn.model.parameters()])
            self._put(learn.model, self.averages)

    def cleanup_valid(self, learn: LearnerState) -> None:
        if self._raw:
            self._put(learn.model, self._raw.pop())

    def after_fit(self, learn: LearnerState) -> None:
        self._put(learn.model, self.averages)

    def cleanup_fit(self, learn: LearnerState) -> None:
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
