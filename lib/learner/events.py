"""The events of a fit and their handlers: the methods that callbacks define, checked and in order."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from lib.learner.callback import Callback, CancelBatch, CancelEpoch, CancelFit, CancelPass, LearnerState, name_of

PHASES = ("fit", "epoch", "train", "valid", "batch")
CANCELS = {"fit": CancelFit, "epoch": CancelEpoch, "train": CancelPass, "valid": CancelPass, "batch": CancelBatch}
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
Handler = tuple[Callback, str, Callable[[LearnerState], Any]]  # the callback, the event, the method


def handlers(callbacks: Iterable[Callback], steps: Callback) -> dict[str, list[Handler]]:
    """Return the handlers of each event, in order; `steps` does the steps that no callback defines.

    Raises TypeError for what is no callback or a method that cannot be called with a learner, and ValueError for a
    method named like an event that there is not, and for a step that two callbacks define.
    """
    table: dict[str, list[Handler]] = {event: [] for event in EVENTS}
    for callback in sorted(map(_checked, callbacks), key=lambda callback: callback.order):
        for event in EVENTS:
            method = getattr(callback, event, None)
            if method is not None:
                table[event].append((callback, event, method))
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
    _check_methods(type(callback))
    for name, value in vars(callback).items():
        _check_method(name_of(callback), name, value, (None,))
    return callback


@functools.cache
def _check_methods(kind: type[Callback]) -> None:
    """Check what a class defines, once: each fit collects the handlers anew."""
    for name in dir(kind):
        _check_method(kind.__name__, name, inspect.getattr_static(kind, name), (None, None))


def _check_method(owner: str, name: str, value: Any, arguments: tuple) -> None:
    """Refuse what is nearly named like an event, and an event's method that cannot be called with `arguments`."""
    if name in EVENTS:
        if isinstance(value, staticmethod | classmethod):
            value, arguments = value.__func__, arguments[isinstance(value, staticmethod) :]
        try:
            inspect.signature(value).bind(*arguments)
        except (TypeError, ValueError) as error:
            written = inspect.signature(value) if callable(value) else repr(value)
            raise TypeError(f"{owner}.{name} must take (self, learn), got {written} ({error})") from None
    elif _misspelt(name):
        raise ValueError(f"{owner}: {unknown_event(name)}")


@functools.cache
def _misspelt(name: str) -> bool:
    """Tell whether a name is nearly that of an event."""
    if name.startswith("_"):
        return False
    return name.startswith(PREFIXES) or bool(difflib.get_close_matches(name, SPELT, n=1, cutoff=0.9))


def unknown_event(event: str) -> str:
    """Say that there is no such event, and which is nearest."""
    near = difflib.get_close_matches(event, EVENTS, n=1, cutoff=0)[0]
    return f"unknown event {event!r}; did you mean {near!r}?"
