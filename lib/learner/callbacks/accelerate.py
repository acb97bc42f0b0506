"""Where and in what precision a model runs: devices, mixed precision, several processes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

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

    All processes must go through the same batches of tensors, as loaders with the same seed do. Gradients, losses and
    metrics are those of one process with the whole batch, also when its rows do not divide evenly: once the loss is
    taken, every process has the whole batch and its predictions. (A BatchNorm normalises by the rows of its process.)
    Mixed precision is the accelerator's own. Start with `accelerate launch`.
    """

    order = -40  # a batch is transformed before it is divided: its random numbers are those of one process

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        if accelerator is None:
            from accelerate import Accelerator

            accelerator = Accelerator()
        self.accelerator = accelerator

    def before_fit(self, learn: Learner) -> None:
        learn.model, learn.optimiser = self.accelerator.prepare(learn.model, learn.optimiser)

    def cleanup_fit(self, learn: Learner) -> None:
        learn.model = self.accelerator.unwrap_model(learn.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def before_batch(self, learn: Learner) -> None:
        n, world = len(learn.inputs[0]), self.accelerator.num_processes
        if n < world and learn.training:
            raise ValueError(f"a batch of {n} is too small for {world} processes: drop_last leaves it out")
        cuts = [rank * n // world for rank in range(world + 1)] if n >= world else [0, n]
        self._sizes = [stop - start for start, stop in pairwise(cuts)]
        rank = self.accelerator.process_index if n >= world else 0
        learn.batch = to_device(_rows(learn.batch, slice(*cuts[rank : rank + 2])), self.accelerator.device)
        self._share = self._sizes[rank] * world / n

    def after_predict(self, learn: Learner) -> None:
        if not learn.training:
            self._gather(learn)

    def after_loss(self, learn: Learner) -> None:
        if learn.training:
            self._loss = learn.loss_value * self._share  # processes are averaged, rows should be
            learn.loss_value = self.accelerator.reduce(self._loss.detach(), "mean")
            self._gather(learn)

    def backward(self, learn: Learner) -> None:
        self.accelerator.backward(self._loss)

    def before_step(self, learn: Learner) -> None:
        self.accelerator.unscale_gradients(learn.optimiser)

    @torch.no_grad()
    def _gather(self, learn: Learner) -> None:
        """Let every process have the whole batch and its predictions, the rows in their order."""
        if len(self._sizes) > 1:
            parts = self.accelerator.gather(self.accelerator.pad_across_processes((learn.preds, learn.batch)))
            longest = max(self._sizes)
            rows = [rank * longest + i for rank, size in enumerate(self._sizes) for i in range(size)]
            learn.preds, learn.batch = _rows(parts, torch.tensor(rows, device=self.accelerator.device))


def bare(model: nn.Module) -> nn.Module:
    """Return the model inside what several processes wrap it in."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def first_process() -> bool:
    """Tell whether this is the process that speaks and writes for all: the only one, or the first."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _rows(batch: Any, rows: slice | Tensor) -> Any:
    if isinstance(batch, dict):
        return {key: _rows(part, rows) for key, part in batch.items()}
    return tuple(_rows(part, rows) for part in batch) if isinstance(batch, tuple | list) else batch[rows]
