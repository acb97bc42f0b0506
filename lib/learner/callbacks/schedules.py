"""Schedules: what a hyper-parameter is multiplied by, or set to, as a function of the progress from 0 to 1."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from itertools import pairwise

from torch.optim import Optimizer

from lib.learner.callback import Callback, LearnerState

Schedule = Callable[[float], float]


def through(*points: tuple[float, float], straight: bool = False) -> Schedule:
    """Pass through points (progress, factor), from progress 0 to 1, along half cosines or straight lines.

    `through((0, 0), (0.1, 1), (0.6, 1), (1, 0), straight=True)` is warm-up, plateau and decay (Hu et al. 2024,
    "MiniCPM", arXiv 2404.06395, section 4). Raises ValueError for places that do not go up, and for negative factors.
    """
    places = [place for place, _ in points]
    if len(points) < 2 or places[0] != 0 or places[-1] != 1 or any(a >= b for a, b in pairwise(places)):
        raise ValueError(f"points (progress, factor) must go up from progress 0 to 1, got {points}")
    if not all(math.isfinite(factor) and factor >= 0 for _, factor in points):
        raise ValueError(f"factors must be finite and at least 0, got {points}")

    def factor(progress: float) -> float:
        i = min(bisect.bisect_right(places, progress), len(points) - 1)
        (low, start), (high, end) = points[i - 1 : i + 1]
        part = min((progress - low) / (high - low), 1.0)
        return start + (end - start) * part if straight else end + (start - end) * (1 + math.cos(math.pi * part)) / 2

    return factor


def cosine(end: float = 0.0) -> Schedule:
    """Fall from 1 to `end` along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5)."""
    return through((0, 1), (1, end))


def one_cycle(warmup: float = 0.25, start: float = 1 / 25, end: float = 4e-7) -> Schedule:
    """Rise from `start` to 1 while the progress is below `warmup`, then fall to `end` (Smith 2018, 1803.09820)."""
    if not 0 < warmup < 1:
        raise ValueError(f"warmup must be between 0 and 1, got {warmup}")
    return through((0, start), (warmup, 1), (1, end))


def momentum_cycle(high: float = 0.95, low: float = 0.85, warmup: float = 0.25) -> Schedule:
    """The momentum that goes with `one_cycle`: low while the learning rate is high (Smith 2018, arXiv 1803.09820)."""
    cycle = one_cycle(warmup, 0.0, 0.0)
    return lambda progress: high - (high - low) * cycle(progress)


class Scheduled(Callback):
    """Set the learning rate (times `lr(progress)`) and the momentum (`momentum(progress)`) by batch or by epoch.

    `momentum` is that of SGD, or Adam's first beta. Each parameter group keeps its own learning rate.
    """

    order = -20  # a recorder notes the learning rate that is used
    whole_fit = True

    def __init__(self, *, lr: Schedule | None = None, momentum: Schedule | None = None, by: str = "batch") -> None:
        if by not in ("batch", "epoch"):
            raise ValueError(f"by must be 'batch' or 'epoch', got {by!r}")
        if lr is None and momentum is None:
            raise ValueError("nothing is scheduled: pass lr=, momentum= or both, such as lr=one_cycle()")
        self.lr, self.momentum, self.by = lr, momentum, by

    def before_fit(self, learn: LearnerState) -> None:
        self.base_lrs = [group["lr"] for group in learn.optimiser.param_groups]
        if self.momentum is not None:
            read_momentum(learn.optimiser)

    def before_epoch(self, learn: LearnerState) -> None:
        if self.by == "epoch":
            self._set(learn.optimiser, learn.epoch / learn.epochs)

    def before_batch(self, learn: LearnerState) -> None:
        if self.by == "batch" and learn.training:
            self._set(learn.optimiser, learn.progress)

    def _set(self, optimiser: Optimizer, progress: float) -> None:
        if self.lr is not None:
            factor = self.lr(progress)
            for group, lr in zip(optimiser.param_groups, self.base_lrs, strict=True):
                group["lr"] = lr * factor
        if self.momentum is not None:
            momentum = self.momentum(progress)
            for group in optimiser.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum


def set_lr(optimiser: Optimizer, lr: float) -> None:
    """Set the learning rate; of several parameter groups the largest rate, and the others keep their share of it."""
    largest = max(group["lr"] for group in optimiser.param_groups)
    for group in optimiser.param_groups:
        group["lr"] = lr * (group["lr"] / largest if largest else 1.0)


def read_momentum(optimiser: Optimizer) -> float:
    """Return the momentum of the first parameter group: SGD's, or Adam's first beta."""
    group = optimiser.param_groups[0]
    if "betas" in group:
        return group["betas"][0]
    if "momentum" not in group:
        raise ValueError(f"{type(optimiser).__name__} has no momentum: its options are {', '.join(sorted(group))}")
    return group["momentum"]
