"""The training loop: every step is an event that callbacks handle, and may replace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.checks import check_count
from lib.data.loaders import DataLoaders
from lib.learner import events
from lib.learner.callback import Callback, Cancel, CancelStep, name_of
from lib.learner.callbacks.lr_finder import LRFinder, LRFinderResult
from lib.learner.callbacks.metrics import Metrics
from lib.learner.callbacks.schedules import set_lr
from lib.learner.events import CANCELS, STEPS
from lib.learner.steps import TrainStep, describe
from lib.nn.state import preserve_state, training_modes


class Learner:
    """A model, its data, a loss `loss(predictions, targets)`, how to make an optimiser, and callbacks.

    `optimiser` is called with the parameters, as `partial(torch.optim.AdamW, lr=1e-2)` can be. `LearnerState` lists
    what callbacks may use of the learner while it runs.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataLoaders,
        loss: Callable[[Any, Any], Tensor],
        optimiser: Callable[[Iterable[nn.Parameter]], Optimizer],
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.model, self.data, self.loss, self.make_optimiser = model, data, loss, optimiser
        self.callbacks = list(callbacks)
        self.log: dict[str, float] = {}
        self.epoch = self.epochs = self.batch_index = self.step_count = 0
        self.training, self.batch, self.preds, self.loss_value = False, None, None, None
        self.active_callbacks: list[Callback] = []
        self._handlers = self._collect(self.callbacks)

    def fit(self, epochs: int, *, lr: float | None = None, callbacks: Iterable[Callback] = ()) -> Learner:
        """Train for `epochs` passes, each followed by a validation pass, with a new optimiser; `lr` overrides its own.

        Where parameter groups have different rates, `lr` is the largest and the others keep their share of it. Modules
        are left in the modes, training or evaluation, in which they were.
        """
        epochs = check_count("epochs", epochs)
        for name, loader in (("train", self.data.train), ("valid", self.data.valid)):
            if loader is not None:
                _count_batches(loader, f"the loader for {name}")
        self.optimiser = self.make_optimiser(self.model.parameters())
        if lr is not None:
            set_lr(self.optimiser, lr)
        self.optimiser.zero_grad()  # an interrupted fit may have left gradients
        self.epoch, self.epochs, self.step_count = 0, epochs, 0
        with self._active([*self.callbacks, *callbacks]), training_modes(self.model):
            self._phase("fit", self._epochs)
        return self

    def _epochs(self) -> None:
        while self.epoch < self.epochs:  # a callback that resumes sets the epoch to start from
            self.log = {}
            self._phase("epoch", self._epoch)
            self.epoch += 1

    def _epoch(self) -> None:
        self._pass("train", self.data.train)
        if self.data.valid is not None:
            self._pass("valid", self.data.valid)

    def _pass(self, name: str, loader: Iterable) -> None:
        self.training, self.loader = name == "train", loader
        self.model.train(self.training)
        steps = STEPS if self.training else STEPS[:2]
        self._step_handlers = [h for step in steps for event in events.around(step) for h in self._handlers[event]]
        with torch.set_grad_enabled(self.training):
            self._phase(name, self._batches)

    def _batches(self) -> None:
        for i, batch in enumerate(self.loader):
            self.batch_index, self.batch = i, batch
            self._phase("batch", self._steps)

    def _steps(self) -> None:
        self.step_count += self.training
        try:
            self._call(self._step_handlers)
        except CancelStep:
            pass
        except Cancel:
            if self.training:
                self._call(self._handlers["zero_grad"])
            raise

    def _phase(self, name: str, body: Callable[[], None]) -> None:
        cancel = CANCELS[name]
        try:
            self._call(self._handlers[f"before_{name}"])
            try:  # noqa: SIM105 - once for each batch: what costs less is taken
                body()
            except cancel:
                pass
            self._call(self._handlers[f"after_{name}"])
        except cancel:
            pass
        finally:
            self._clean_up(f"cleanup_{name}")

    def dispatch(self, event: str) -> None:
        """Call the handlers of an event; an error gets a note that names callback, event and batch."""
        if event not in self._handlers:
            raise ValueError(events.unknown_event(event))
        self._call(self._handlers[event])

    def _call(self, handlers: list[events.Handler]) -> None:
        """Call handlers one after the other: once for each batch, so one loop over all of its steps."""
        try:
            for callback, event, method in handlers:  # noqa: B007 - the names of the one that failed
                method(self)
        except Exception as error:
            error.add_note(self._where(callback, event))
            raise

    def _clean_up(self, event: str) -> None:
        """Let every callback clean up, whatever fails; then raise what failed first."""
        failed = []
        for callback, _, method in reversed(self._handlers[event]):
            try:
                method(self)
            except BaseException as error:
                error.add_note(self._where(callback, event))
                failed.append(error)
        if failed and isinstance(failed[0], Cancel):  # raised as it is, it would hide an error that is on its way
            raise RuntimeError(f"nothing can be cancelled in {event}") from failed[0]
        if failed:
            raise failed[0]

    def _where(self, callback: Callback, event: str) -> str:
        where = f"in {name_of(callback)}.{event}"
        if self.batch is None:
            return where
        return f"{where}, epoch {self.epoch}, {self.stage} batch {self.batch_index}: {describe(self.batch)}"

    @property
    def stage(self) -> str:
        """What the pass is for: "train" or "valid"."""
        return "train" if self.training else "valid"

    @property
    def inputs(self) -> tuple:
        """What the model is called with: all of a batch but its last part."""
        batch = self.batch
        return batch[:-1] if type(batch) is tuple and len(batch) > 1 else split(batch)[0]

    @property
    def targets(self) -> Any:
        """The last part of a batch of two or more parts."""
        batch = self.batch
        return batch[-1] if type(batch) is tuple and len(batch) > 1 else split(batch)[1]

    @property
    def progress(self) -> float:
        """How much of the fit's training batches are done, from 0 to 1."""
        return self.step_count / (self.epochs * len(self.data.train))

    def evaluate(self, loader: Iterable | None = None) -> dict[str, float]:
        """Return the loss and each metric over a loader, by default the validation one; nothing is changed."""
        loader = self._loader(loader)
        with self._aside(loader) as learn:
            learn._pass("valid", loader)
            return {name.removeprefix("valid_"): value for name, value in learn.log.items()}

    def predict(self, loader: Iterable | None = None) -> Tensor:
        """Return the predictions for a loader, by default the validation one: [n, ...]; nothing is changed."""
        return _joined([preds for _, preds, _ in self._captured(loader)])

    def capture(self, loader: Iterable | None = None) -> tuple[Any, Any, Any]:
        """Return inputs, predictions and targets of a loader, each [n, ...], as the model saw them.

        Inputs are a tuple where the model takes several; targets are None where batches have none.
        """
        inputs, preds, targets = zip(*self._captured(loader), strict=True)
        inputs = _joined(list(inputs))
        return inputs[0] if len(inputs) == 1 else inputs, _joined(list(preds)), _joined(list(targets))

    def _captured(self, loader: Iterable | None) -> list[tuple]:
        """Predict batch by batch; only the events that prepare a batch and predict are dispatched."""
        captured, loader = [], self._loader(loader)
        with self._aside(loader) as learn, torch.no_grad():
            learn.model.eval()
            for i, batch in enumerate(loader):
                learn.batch_index, learn.batch = i, batch
                try:
                    learn.dispatch("before_batch")
                    for event in events.around("predict"):
                        learn.dispatch(event)
                    captured.append((learn.inputs, learn.preds, learn.targets))
                finally:
                    learn._clean_up("cleanup_batch")
        return captured

    def lr_find(self, start: float = 1e-5, stop: float = 10.0, steps: int = 100) -> LRFinderResult:
        """Train on `steps` batches while the learning rate grows from `start` to `stop`, and put everything back.

        Returns the losses on the way and a suggestion (Smith 2017, arXiv 1506.01186, section 3.3).
        """
        finder = LRFinder(start, stop, steps)
        epochs = -(-steps // _count_batches(self.data.train, "the loader for train"))
        with self._aside(self.data.train, weights=True) as learn:
            learn.callbacks = [callback for callback in self.callbacks if not callback.whole_fit]
            learn.fit(epochs, lr=start, callbacks=[finder])
        return finder.result()

    def _loader(self, loader: Iterable | None) -> Iterable:
        loader = self.data.valid if loader is None else loader
        if loader is None:
            raise ValueError("there is no validation loader: pass one")
        _count_batches(loader, "the loader")
        return loader

    @contextmanager
    def _aside(self, loader: Iterable, weights: bool = False) -> Iterator[Learner]:
        """Yield a copy of the learner to run; the model, the loader and all random states are afterwards as before."""
        learn = copy.copy(self)
        learn.training, learn.log = False, {}
        active = [callback for callback in self.callbacks if not callback.whole_fit or isinstance(callback, Metrics)]
        with preserve_state(self.model, loader, weights), learn._active(active):
            yield learn

    @contextmanager
    def _active(self, callbacks: Sequence[Callback]) -> Iterator[None]:
        """Make these the callbacks whose handlers are called, for as long as the block runs."""
        before = self._handlers, self.active_callbacks
        self._handlers, self.active_callbacks = self._collect(callbacks), list(callbacks)
        try:
            yield
        finally:
            self._handlers, self.active_callbacks = before
            self.batch = self.preds = self.loss_value = None  # hold no memory

    @staticmethod
    def _collect(callbacks: Sequence[Callback]) -> dict[str, list[events.Handler]]:
        """Return the handlers of each event: the callbacks', the five steps, and by default the mean of the loss."""
        steps = [callback for callback in callbacks if isinstance(callback, TrainStep)]
        others = [callback for callback in callbacks if not isinstance(callback, TrainStep)]
        if len(steps) > 1:
            raise ValueError(f"one TrainStep at most, got {', '.join(map(name_of, steps))}")
        if not any(isinstance(callback, Metrics) for callback in others):
            others.append(Metrics())
        return events.handlers(others, steps[0] if steps else TrainStep())


def _count_batches(loader: Iterable, name: str) -> int:
    """Return how many batches a loader has; raise ValueError if there is none, or if it cannot say."""
    try:
        batches = len(loader)
    except TypeError as error:
        raise ValueError(
            f"{name} has no length, as one of a stream has none: schedules and progress need one; "
            "wrap it in a class with __iter__ and __len__, the batches of a pass"
        ) from error
    if not batches:
        raise ValueError(f"{name} is empty: it has no batch")
    return batches


def split(batch: Any) -> tuple[tuple, Any]:
    """Cut a batch into inputs (a tuple) and targets: a tensor has no targets, a sequence or a dict ends with them."""
    if isinstance(batch, Tensor):
        return (batch,), None
    parts = tuple(batch.values() if isinstance(batch, dict) else batch)
    return (parts, None) if len(parts) == 1 else (parts[:-1], parts[-1])


def _joined(parts: list) -> Any:
    """Join batches of one structure along their first axis."""
    if isinstance(parts[0], Tensor):
        return torch.cat([part.detach() for part in parts])
    if isinstance(parts[0], tuple | list):
        return tuple(_joined(list(column)) for column in zip(*parts, strict=True))
    if isinstance(parts[0], dict):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    return None if parts[0] is None else [item for part in parts for item in part]
