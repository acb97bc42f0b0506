"""A picture as the parameters: change its pixels until a loss is low."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from lib.checks import check_choice

METHODS = ("lbfgs", "adam")
EDGE = 0.005  # nearer to black or white than this the slope of the sine has all but gone, so no pixel starts there
Callback = Callable[[int, Tensor, float], object]


class Optimised(NamedTuple):
    """Of all the pictures that were evaluated the one of the lowest loss [n, 3, h, w], and the loss of each."""

    picture: Tensor
    losses: list[float]


class _Stop(Exception):
    """Enough steps were taken."""


def optimise_image(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int = 150,
    *,
    method: str = "lbfgs",
    lr: float | None = None,
    history_size: int = 20,
    callback: Callback | None = None,
) -> Optimised:
    """Lower the loss of pictures [n, 3, h, w] in [0, 1], beginning with `start`, which stays as it is.

    `objective` gives a number for pictures; a step is one evaluation of it and its gradient. The pixels are
    (1 + sin z) / 2 and z is what changes: so they stay in [0, 1] by themselves, and every picture in between is a
    picture. "lbfgs" is L-BFGS with a line search of strong Wolfe conditions (Nocedal and Wright 2006, algorithms 7.5
    and 3.5); `lr` is its first trial step, 1. "adam" is Adam, `lr` 0.1. Beside what the objective needs, Adam keeps two
    tensors of the size of the pictures, L-BFGS two for each of `history_size` pairs: at 2048x2048, where one is 50 MB,
    2 GB. `callback(step, picture, loss)` is called at each step, and ends it by returning True.
    Raises ValueError for a start outside [0, 1], and FloatingPointError for a loss that is not finite.
    """
    check_choice("method", method, METHODS)
    low, high = float(start.min()), float(start.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"start must lie in [0, 1], got {low:g} to {high:g}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    z = torch.asin(start.detach().clamp(EDGE, 1 - EDGE) * 2 - 1).requires_grad_()
    losses: list[float] = []
    best = z.detach().clone()

    def closure() -> Tensor:
        picture = (1 + torch.sin(z)) / 2
        loss = objective(picture)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {len(losses)}, with {method} and lr {lr}")
        (z.grad,) = torch.autograd.grad(loss, z)  # and no gradient of the network's weights
        if not losses or value < min(losses):
            best.copy_(z.detach())
        losses.append(value)
        stop = callback is not None and callback(len(losses) - 1, picture.detach(), value) is True
        if stop or len(losses) == steps:
            raise _Stop
        return loss

    if method == "adam":
        optimiser = torch.optim.Adam([z], lr=lr or 0.1)
    else:
        optimiser = torch.optim.LBFGS(
            [z],
            lr=lr or 1,
            max_iter=steps,
            history_size=history_size,
            line_search_fn="strong_wolfe",
            tolerance_grad=0,
            tolerance_change=0,
        )
    with suppress(_Stop):
        while True:
            before = len(losses)
            optimiser.step(closure)
            if method == "lbfgs" and len(losses) == before + 1:
                break  # it only evaluated: there is nothing left to gain
    return Optimised((1 + torch.sin(best)) / 2, losses)
