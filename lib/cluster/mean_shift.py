"""Mean shift: every point climbs to where the data are dense (Comaniciu and Meer 2002, Fukunaga and Hostetler 1975)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.spatial import KDTree
from torch import Tensor

from lib.checks import check_choice, check_count
from lib.cluster import check, kernels
from lib.cluster.backends import cells, full, grid, near
from lib.cluster.backends.full import Shift
from lib.cluster.kernels import KERNELS
from lib.cluster.neighbours import Neighbours

MIB = 2**20
ALGORITHMS = ("auto", "full", "nearest")
FEW_NODES = 2**16  # fast enough for any data; a larger grid may have a quarter as many as there are pairs
CENTRE_TOL = 1e-8  # of the centres, in bandwidths,
CENTRE_STEPS = 10  # and times as many steps for them, so that it does not matter which end becomes one


@dataclass(frozen=True)
class Clusters:
    """What mean shift found.

    `labels` [n] int64 number the centre nearest to each point of the data, as in scikit-learn (with blurring, nearest
    to where it ended); `centres` [k, d] are the modes, densest first; `ends` [n, d] is where each point came to rest,
    `iterations` how many steps that took, `algorithm` what was used: "full", "cells", "grid" or "neighbours"; `path`
    holds the points before the first and after each step, where it was asked for.
    """

    labels: Tensor
    centres: Tensor
    ends: Tensor
    iterations: int
    algorithm: str
    path: list[Tensor] = field(default_factory=list)


def mean_shift(
    x: Tensor,
    bandwidth: float,
    kernel: str = "gaussian",
    *,
    blurring: bool = False,
    algorithm: str = "auto",
    neighbours: Callable[[Tensor], Neighbours] | None = None,
    batch_size: int | None = None,
    memory_limit: int = 512 * MIB,
    tol: float = 1e-3,
    max_iter: int = 300,
    path: bool = False,
) -> Clusters:
    """Move each point of x [n, d] to the weighted mean of the data around it, again and again, and gather the modes.

    `kernel` weighs the data by their distance in bandwidths: "gaussian" exp(-r^2 / 2), "flat" (within one bandwidth),
    "triangular" 1 - r. The data stay where they are; with `blurring` they move too, all from one snapshot a step
    (Cheng 1995). A point rests once a step is at most `tol` bandwidths, at the latest after `max_iter` steps. Ends
    within a bandwidth of a denser one are merged into it (of ends as dense, into the last by place, as in
    scikit-learn); where the data stay, those that are left, the centres, climb on until a step is at most 1e-8
    bandwidths, and are merged again.

    "full" looks at all of the data, `batch_size` points at a time or as many as fit in `memory_limit` bytes, on any
    device. "nearest", on the CPU and in up to 3 dimensions, looks at the closest only: exact for kernels of bounded
    support; for the Gaussian by a grid of its density (a step is within 1e-3 bandwidths of the exact one) or, where
    that would be too large for `memory_limit` or for the data, with a cutoff so far that all beyond weigh less than
    1e-5 together. "auto" takes "nearest" on the CPU where it can, and "full" elsewhere. With `neighbours` a step sees
    those rows of x that this search returns for points [m, d], at the distances that it says: as good an answer as the
    search is, for many dimensions. All else is computed in float64; what is returned has the dtype of x where that is a
    floating one.

    Raises TypeError and ValueError for what is no finite table of numbers, for an unknown kernel or algorithm, numbers
    out of range, a memory limit too small for one row, and `neighbours` with blurring or another algorithm.
    """
    points = check.points(x)
    origin = points.median(dim=0).values  # far from 0, sums of coordinates would lose digits
    data = points - origin
    if bandwidth == 0:
        raise ValueError(
            "bandwidth must be positive and finite, got 0: where estimate_bandwidth gives that, the near neighbours of "
            "all points are duplicates; take a larger quantile, more samples, or each point once, x.unique(dim=0)"
        )
    bandwidth, tol = check.positive("bandwidth", bandwidth), check.positive("tol", tol)
    check_choice("kernel", kernel, KERNELS)
    check_choice("algorithm", algorithm, ALGORITHMS)
    max_iter = check_count("max_iter", max_iter)
    dtype = x.dtype if x.is_floating_point() else torch.float64
    rows = full.rows_within(memory_limit, *data.shape)
    if batch_size is not None:
        rows = min(rows, check_count("batch_size", batch_size))
    if neighbours is None:
        name, make = _choose_step(data, bandwidth, kernel, algorithm, rows, memory_limit)
    elif blurring or algorithm != "auto":
        other = "blurring=True: the data would move on" if blurring else f"algorithm {algorithm!r}"
        raise ValueError(f"neighbours say what a step sees, and do not go together with {other}")
    else:
        name, make = "neighbours", lambda data: near.shift(data, bandwidth, kernel, neighbours, origin, dtype, rows)
    if kernel == "flat":
        make = _once_each(make)
    step = make(data)
    ends, weight, iterations, steps = _climb(data, step, bandwidth * tol, max_iter, make if blurring else None, path)
    centres = _modes(ends, weight, bandwidth)
    if not blurring:
        centres, weight, *_ = _climb(centres, step, bandwidth * min(tol, CENTRE_TOL), CENTRE_STEPS * max_iter)
        centres = _modes(centres, weight, bandwidth)
    labels = torch.from_numpy(KDTree(centres.cpu().numpy()).query((ends if blurring else data).cpu().numpy())[1])
    centres, ends, *steps = ((places + origin).to(dtype) for places in (centres, ends, *steps))
    return Clusters(labels.to(x.device), centres, ends, iterations, name, steps)


def _choose_step(
    data: Tensor, bandwidth: float, kernel: str, algorithm: str, rows: int, memory_limit: int
) -> tuple[str, Callable[[Tensor], Shift]]:
    """Choose how a step is computed; return its name, and a function of the data that makes one."""
    cutoff = kernels.cutoff(kernel, len(data))
    fits = data.device.type == "cpu" and cells.fits(data, cutoff * bandwidth)
    if algorithm == "full" or (algorithm == "auto" and not fits):
        return "full", lambda data: full.shift(data, bandwidth, kernel, rows)
    if not fits:
        raise ValueError(
            f"algorithm 'nearest' is for the CPU and up to {cells.AXES} dimensions, got {list(data.shape)} on "
            f"{data.device}: use 'full' or 'auto'"
        )
    n, nodes = len(data), grid.count_nodes(data, bandwidth) if kernel == "gaussian" else math.inf
    if nodes <= min(max(FEW_NODES, n**2 // 4), memory_limit // grid.BYTES_PER_NODE):
        return "grid", lambda data: grid.shift(data, bandwidth)
    return "cells", lambda data: cells.shift(data, bandwidth, kernel, cutoff)


def _once_each(make: Callable[[Tensor], Shift]) -> Callable[[Tensor], Shift]:
    """Move points at one place as one: under the flat kernel those that see the same data meet, to the last digit."""

    def made(data: Tensor) -> Shift:
        step, slope = make(data), torch.arange(1.0, data.shape[1] + 1).sqrt().to(data)

        def moved_once(points: Tensor) -> tuple[Tensor, Tensor]:
            order = (points @ slope).argsort()
            first = (points[order].diff(dim=0) != 0).any(dim=1)  # of those at its place
            first = torch.cat([first.new_ones(1), first])
            back = torch.empty_like(order).scatter_(0, order, first.cumsum(0) - 1)
            moved, weight = step(points[order[first]])
            return moved[back], weight[back]

        return moved_once

    return made


def _climb(
    start: Tensor,
    step: Shift,
    tol: float,
    max_iter: int,
    blurred: Callable[[Tensor], Shift] | None = None,
    path: bool = False,
) -> tuple[Tensor, Tensor, int, list[Tensor]]:
    """Move points until they rest; return where, the weight that each saw there, the steps taken, and the path.

    `blurred` makes the next step from where all points are now.
    """
    points, weight = start.clone(), start.new_zeros(len(start))
    steps = [points.clone()] if path else []
    moving, iteration = torch.arange(len(start), device=start.device), 0
    while len(moving) and iteration < max_iter:
        iteration += 1
        before = points[moving]
        moved, seen = step(before)
        points[moving], weight[moving] = moved, seen
        if path:
            steps.append(points.clone())
        moves = (moved - before).norm(dim=1) > tol
        if blurred is None:
            moving = moving[moves]  # the data stay, so a point that rests will rest
        elif moves.any():
            step = blurred(points)
        else:
            break
    return points, weight, iteration, steps


def _modes(ends: Tensor, weight: Tensor, bandwidth: float) -> Tensor:
    """Return the densest ends, none within a bandwidth of a denser one: [k, d], densest first."""
    places = torch.cat([weight[:, None], ends], dim=1).unique(dim=0).flip(0)[:, 1:]  # sorted by weight, then by place
    table = places.cpu().numpy()
    tree, kept, taken = KDTree(table), [], torch.zeros(len(table), dtype=torch.bool).numpy()
    for i in range(len(table)):
        if not taken[i]:
            kept.append(i)
            taken[tree.query_ball_point(table[i], bandwidth)] = True
    return places[kept]
