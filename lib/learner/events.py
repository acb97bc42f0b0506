"""What a learner tells its callbacks, in which order they hear it, and how one of them ends a phase early."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.learner.learner import Learner

PHASES = ("fit", "epoch", "train", "valid", "batch")
STEPS = ("predict", "loss", "backward", "step", "zero_grad")


def around(step: str) -> tuple[str, str, str]:
    """Return the three events of a step: before it, the step itself, after it."""
    return f"before_{step}", step, f"after_{step}"


EVENTS = (
    *(f"{when}_{phase}" for phase in PHASES for when in ("before", "after", "cleanup")),
    *(event for step in STEPS for event in around(step)),
)
SPELT = tuple(event for event in EVENTS if "_" in event)  # `steps` or `losses` are fine names, `befor_fit` is not
PREFIXES = ("before_", "after_", "cleanup_")
Hearer = tuple["Callback", str, Callable[["Learner"], Any]]  # who, which event, the method


class Callback:
    """Something that hears a learner: methods named after `EVENTS`, each taking (self, learn).

    Lower `order` hears first; the same order, first given hears first. `cleanup_` events are heard in reverse order,
    always, also when the matching `before_` was not. A step (`predict`, `loss`, `backward`, `step`, `zero_grad`) that a
    callback defines replaces the learner's own. `whole_fit` marks what watches or steers a whole fit: such a callback
    is left out where a learner only looks (`evaluate`, `predict`, `capture`, `lr_find`), but for `Metrics`.
    """

    order: int = 0
    whole_fit: bool = False


class Cancel(Exception):
    """End a phase early; its `after_` event is still heard, unless it was cancelled in its `before_` event."""


class CancelFit(Cancel):
    """End the fit."""


class CancelEpoch(Cancel):
    """End this epoch, its training and its validation pass."""


class CancelPass(Cancel):
    """End this pass over a loader, training or validation."""


class CancelBatch(Cancel):
    """Leave the rest of this batch."""


CANCELS = {"fit": CancelFit, "epoch": CancelEpoch, "train": CancelPass, "valid": CancelPass, "batch": CancelBatch}


def handlers(callbacks: Iterable[Callback], steps: Callback) -> dict[str, list[Hearer]]:
    """Return for each event who hears it, in order; `steps` does the steps that no callback defines.

    Raises TypeError for what is no callback or a method that cannot be called with a learner, and ValueError for a
    method named like an event that there is not, and for a step that two callbacks define.
    """
    table: dict[str, list[Hearer]] = {event: [] for event in EVENTS}
    for callback in sorted(map(_checked, callbacks), key=lambda callback: callback.order):
        for event in EVENTS:
            hear = getattr(callback, event, None)
            if hear is not None:
                _check_signature(callback, event, hear)
                table[event].append((callback, event, hear))
    for step in STEPS:
        names = [name_of(callback) for callback, _, _ in table[step]]
        if len(names) > 1:
            raise ValueError(f"only one callback can define the step {step!r}, got {' and '.join(names)}")
        table[step] = table[step] or [(steps, step, getattr(steps, step))]
    return table


def _checked(callback: Callback) -> Callback:
    if isinstance(callback, type):
        raise TypeError(f"expected a callback, got the class {callback.__name__}: call it, {callback.__name__}(...)")
    if not isinstance(callback, Callback):
        raise TypeError(f"expected a lib.learner.Callback, got {type(callback).__name__}")
    for name in dir(callback):
        if name.startswith("_") or name in EVENTS:
            continue
        if name.startswith(PREFIXES) or difflib.get_close_matches(name, SPELT, n=1, cutoff=0.9):
            raise ValueError(f"{name_of(callback)}: {unknown(name)}")
    return callback


def _check_signature(callback: Callback, event: str, hear: Callable) -> None:
    try:
        inspect.signature(hear).bind(None)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name_of(callback)}.{event} must take (self, learn), got {_written(callback, event)} ({error})"
        ) from None


def _written(callback: Callback, event: str) -> str:
    function = getattr(getattr(callback, event), "__func__", getattr(callback, event))
    return str(inspect.signature(function)) if callable(function) else repr(function)


def unknown(event: str) -> str:
    """Say that there is no such event, and which is nearest."""
    near = difflib.get_close_matches(event, EVENTS, n=1, cutoff=0)[0]
    return f"unknown event {event!r}; did you mean {near!r}?"


def name_of(callback: object) -> str:
    """Return what errors call a callback."""
    return type(callback).__name__
