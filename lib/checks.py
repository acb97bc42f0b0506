"""Arguments made fit: choices by name (of kernels, algorithms, schedules), counts, and floats wide enough to sum."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor


def check_choice(what: str, name: str, choices: Iterable[str]) -> None:
    """Raise ValueError, with the nearest of the choices, if `name` is none of them."""
    choices = tuple(choices)
    if name not in choices:
        near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {what} {name!r}; {meant}Known: {', '.join(choices) or 'none'}")


def check_count(what: str, value: float) -> int:
    """Return a whole number that is at least 1, or raise ValueError."""
    if not value >= 1:
        raise ValueError(f"{what} must be at least 1, got {value}")
    if value % 1:
        raise ValueError(f"{what} must be a whole number, got {value}")
    return int(value)


def wide(x: Tensor) -> Tensor:
    """Return x in float32, or as it is where that is wider: squares and averages do not fit into half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
