"""Gradients that are clipped before a step."""

from __future__ import annotations

from torch import nn

from lib.learner.callback import Callback, LearnerState


class ClipGradients(Callback):
    """Scale all gradients together so that their norm is at most `max_norm` (Pascanu 2013, arXiv 1211.5063)."""

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def before_step(self, learn: LearnerState) -> None:
        nn.utils.clip_grad_norm_(learn.model.parameters(), self.max_norm)
