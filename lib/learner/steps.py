"""The five steps of training, as a callback: predict, loss, backward, step, zero_grad."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lib.learner.callback import Callback, LearnerState


class TrainStep(Callback):
    """What a learner does with a batch, unless another callback defines the step."""

    def predict(self, learn: LearnerState) -> None:
        try:
            learn.preds = learn.model(*learn.inputs)
        except (RuntimeError, TypeError) as error:
            fault = mismatch(learn)
            if fault:
                raise ValueError(fault) from error
            raise

    def loss(self, learn: LearnerState) -> None:
        learn.loss_value = loss = learn.loss(learn.preds, learn.targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(f"the loss must be a scalar tensor, got {describe(loss)}: take its mean or sum")

    def backward(self, learn: LearnerState) -> None:
        learn.loss_value.backward()

    def step(self, learn: LearnerState) -> None:
        learn.optimiser.step()

    def zero_grad(self, learn: LearnerState) -> None:
        learn.optimiser.zero_grad()


def mismatch(learn: LearnerState) -> str | None:
    """Say where the inputs and the model's weights disagree in device or dtype, or return None."""
    weight = next((p for p in learn.model.parameters() if p.is_floating_point()), None)
    for value in learn.inputs:
        if weight is None or not isinstance(value, Tensor):
            continue
        if value.device != weight.device:
            return f"inputs are on {value.device}, the model's weights on {weight.device}: DeviceCallback moves both"
        if value.dtype != weight.dtype and (value.is_floating_point() or value.ndim > 2):
            return f"inputs are {describe(value)}, the model's weights {_dtype(weight)}: turn the inputs into those"
    return None


def describe(value: Any) -> str:
    """Tell dtype, shape and device of the tensors in a batch."""
    if isinstance(value, Tensor):
        return f"{_dtype(value)} {list(value.shape)} on {value.device}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return ", ".join(describe(part) for part in value)
    return type(value).__name__


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
