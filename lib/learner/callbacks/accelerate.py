"""A fit in several processes, with Hugging Face Accelerate."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lib.learner.callback import Callback, CancelStep, LearnerState
from lib.learner.callbacks.device import to_device
from lib.learner.callbacks.precision import scale_again

if TYPE_CHECKING:
    from accelerate import Accelerator


class Accelerated(Callback):
    """Train in several processes with Hugging Face Accelerate: each takes its rows of every batch.

    All processes must go through the same batches of tensors, as loaders with the same seed do. Gradients, losses and
    metrics are those of one process with the whole batch, also when its rows do not divide evenly: once the loss is
    taken, every process has the whole batch and its predictions. (A BatchNorm normalises by the rows of its process.)
    Mixed precision is the accelerator's own, and so is `gradient_accumulation_steps`: one step for so many batches, and
    for what is left at the end of an epoch. A batch is divided once every callback has prepared it, whatever its
    `order`, so that random numbers drawn for it are those of one process. Start with `accelerate launch`.
    """

    order = -40  # gradients are unscaled before they are clipped
    _unscaled = False  # gradients, and their step not taken yet

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        if accelerator is None:
            from accelerate import Accelerator

            accelerator = Accelerator()
        self.accelerator = accelerator

    def before_fit(self, learn: LearnerState) -> None:
        learn.model, learn.optimiser = self.accelerator.prepare(learn.model, learn.optimiser)

    def cleanup_fit(self, learn: LearnerState) -> None:
        learn.model = self.accelerator.unwrap_model(learn.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def before_predict(self, learn: LearnerState) -> None:
        n, world = len(learn.inputs[0]), self.accelerator.num_processes
        if n < world and learn.training:
            raise ValueError(f"a batch of {n} is too small for {world} processes: drop_last leaves it out")
        cuts = [rank * n // world for rank in range(world + 1)] if n >= world else [0, n]
        self._sizes = [stop - start for start, stop in pairwise(cuts)]
        rank = self.accelerator.process_index if n >= world else 0
        learn.batch = to_device(_rows(learn.batch, slice(*cuts[rank : rank + 2])), self.accelerator.device)
        self._share = self._sizes[rank] * world / n

    def after_predict(self, learn: LearnerState) -> None:
        if not learn.training:
            self._gather(learn)

    def after_loss(self, learn: LearnerState) -> None:
        if learn.training:
            self._loss = learn.loss_value * self._share  # processes are averaged, rows should be
            learn.loss_value = self.accelerator.reduce(self._loss.detach(), "mean")
            self._gather(learn)

    def backward(self, learn: LearnerState) -> None:
        self.accelerator.backward(self._loss)

    def before_step(self, learn: LearnerState) -> None:
        done = learn.batch_index + 1
        if done % self.accelerator.gradient_accumulation_steps and done < len(learn.loader):
            raise CancelStep
        self.accelerator.unscale_gradients(learn.optimiser)
        self._unscaled = self.accelerator.scaler is not None

    def after_step(self, learn: LearnerState) -> None:
        self._unscaled = False

    def cleanup_batch(self, learn: LearnerState) -> None:
        if self._unscaled:
            self._unscaled = False
            scale_again(self.accelerator.scaler, learn.model)

    @torch.no_grad()
    def _gather(self, learn: LearnerState) -> None:
        """Let every process have the whole batch and its predictions, the rows in their order."""
        if len(self._sizes) > 1:
            parts = self.accelerator.gather(self.accelerator.pad_across_processes((learn.preds, learn.batch)))
            longest = max(self._sizes)
            rows = [rank * longest + i for rank, size in enumerate(self._sizes) for i in range(size)]
            learn.preds, learn.batch = _rows(parts, torch.tensor(rows, device=self.accelerator.device))


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside the wrapper for several processes."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def first_process() -> bool:
    """Tell whether this is the process that prints and writes for all: the only one, or the first."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _rows(batch: Any, rows: slice | Tensor) -> Any:
    if isinstance(batch, dict):
        return {key: _rows(part, rows) for key, part in batch.items()}
    return tuple(_rows(part, rows) for part in batch) if isinstance(batch, tuple | list) else batch[rows]
