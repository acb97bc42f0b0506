"""Where a fit runs: the model and each batch, moved to a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lib.learner.callback import Callback, LearnerState


def to_device(batch: Any, device: torch.device | str) -> Any:
    """Move every tensor of a batch, however nested in tuples, lists and dicts."""
    if isinstance(batch, dict):
        return {key: to_device(part, device) for key, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(to_device(part, device) for part in batch)
    if not isinstance(batch, Tensor):
        return batch
    # A copy to the CPU that nobody waits for is read before it has arrived.
    return batch.to(device, non_blocking=torch.device(device).type != "cpu")


class DeviceCallback(Callback):
    """Move the model when a fit begins, and each batch to where the model is."""

    order = -100

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def before_fit(self, learn: LearnerState) -> None:
        learn.model.to(self.device)

    def before_batch(self, learn: LearnerState) -> None:
        weight = next(learn.model.parameters(), None)
        learn.batch = to_device(learn.batch, self.device if weight is None else weight.device)
