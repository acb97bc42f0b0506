"""Where and in what precision a model runs: devices, mixed precision, several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib.learner.events import Callback

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lib.learner.learner import Learner


def to_device(batch: Any, device: torch.device | str) -> Any:
    """Move every tensor of a batch, however nested in tuples, lists and dicts."""
    if isinstance(batch, dict):
        return {key: to_device(part, device) for key, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(to_device(part, device) for part in batch)
    return batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch


class DeviceCallback(Callback):
    """Move the model when a fit begins, and each batch to where the model is."""

    order = -100

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def before_fit(self, learn: Learner) -> None:
        learn.model.to(self.device)

    def before_batch(self, learn: Learner) -> None:
        weight = next(learn.model.parameters(), None)
        learn.batch = to_device(learn.batch, self.device if weight is None else weight.device)


class BatchTransform(Callback):
    """Map each batch, training and validation by default: `function(batch) -> batch`."""

    order = -50

    def __init__(self, function: Callable[[Any], Any], *, train: bool = True, valid: bool = True) -> None:
        self.function, self.train, self.valid = function, train, valid

    def before_batch(self, learn: Learner) -> None:
        if self.train if learn.training else self.valid:
            learn.batch = self.function(learn.batch)


class MixedPrecision(Callback):
    """Predict and take the loss in bfloat16 or float16 where that is safe (Micikevicius 2018, arXiv 1710.03740).

    float16 scales the loss so that small gradients survive; bfloat16 has float32's range and needs no scale.
    """

    order = -30  # gradients are unscaled before they are clipped

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"expected torch.bfloat16 or torch.float16, got {dtype}")
        self.dtype = dtype
        self.scaler: torch.amp.GradScaler | None = None
        self._cast: torch.autocast | None = None

    def before_fit(self, learn: Learner) -> None:
        kind = _kind(learn)
        self.scaler = torch.amp.GradScaler(kind, enabled=self.dtype == torch.float16)

    def before_predict(self, learn: Learner) -> None:
        self._cast = torch.autocast(_kind(learn), self.dtype)
        self._cast.__enter__()

    def after_predict(self, learn: Learner) -> None:
        cast, self._cast = self._cast, None
        if cast is not None:
            cast.__exit__(None, None, None)

    before_loss = before_predict
    after_loss = cleanup_batch = after_predict

    def backward(self, learn: Learner) -> None:
        self.scaler.scale(learn.loss_value).backward()

    def before_step(self, learn: Learner) -> None:
        self.scaler.unscale_(learn.optimiser)

    def step(self, learn: Learner) -> None:
        self.scaler.step(learn.optimiser)  # leaves out a step whose gradients overflowed
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


def _kind(learn: Learner) -> str:
    weight = next(learn.model.parameters(), None)
    return "cpu" if weight is None else weight.device.type


class Accelerated(Callback):
    """Train in several processes with Hugging Face Accelerate: each takes its rows of every batch.

    All processes must go through the same batches, as loaders with the same seed do. The gradients are those of one
    process with the whole batch, also when its rows do not divide evenly. Start with `accelerate launch`.
    """

    order = -90

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        if accelerator is None:
            from accelerate import Accelerator

            accelerator = Accelerator()
        self.accelerator = accelerator

    def before_fit(self, learn: Learner) -> None:
        self._bare = learn.model
        learn.model, learn.optimiser = self.accelerator.prepare(learn.model, learn.optimiser)

    def cleanup_fit(self, learn: Learner) -> None:
        learn.model = vars(self).pop("_bare", learn.model)

    def before_batch(self, learn: Learner) -> None:
        n = len(learn.inputs[0])
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if n < world:
            raise ValueError(f"a batch of {n} is too small for {world} processes: drop_last leaves it out")
        rows = slice(rank * n // world, (rank + 1) * n // world)
        learn.batch = to_device(_rows(learn.batch, rows), self.accelerator.device)
        self._share = (rows.stop - rows.start) * world / n

    def backward(self, learn: Learner) -> None:
        self.accelerator.backward(learn.loss_value * self._share)  # processes are averaged, rows should be


def _rows(batch: Any, rows: slice) -> Any:
    if isinstance(batch, dict):
        return {key: _rows(part, rows) for key, part in batch.items()}
    return tuple(_rows(part, rows) for part in batch) if isinstance(batch, tuple | list) else batch[rows]
