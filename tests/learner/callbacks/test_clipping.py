"""Clipped gradients: never above the norm, never scaled up."""

import pytest
import torch

from lib.learner import Callback, ClipGradients
from tests.learner.problem import learner


class Norms(Callback):
    """Notes the norm of all gradients together, before or after they are clipped."""

    def __init__(self, order):
        self.order, self.norms = order, []

    def before_step(self, learn):
        gradients = torch.cat([p.grad.flatten() for p in learn.model.parameters()])
        self.norms.append(gradients.norm().item())


def test_gradients_are_scaled_down_to_the_norm_and_never_up():
    before, after = Norms(-1), Norms(1)
    learner([before, after, ClipGradients(0.8)]).fit(2)
    assert min(before.norms) < 0.8 < max(before.norms)
    assert after.norms == pytest.approx([min(norm, 0.8) for norm in before.norms], rel=1e-4)
    with pytest.raises(ValueError, match=r"max_norm.* 0"):
        ClipGradients(0)
