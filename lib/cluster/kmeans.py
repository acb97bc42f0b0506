"""k-means: points go to the nearest of k centres, centres to the mean of their points, in turn (Lloyd 1982)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lib.checks import check_choice, check_count
from lib.cluster import check
from lib.cluster.backends import close, elkan

MIB = 2**20
ALGORITHMS = ("auto", "lloyd", "elkan")


@dataclass(frozen=True)
class KMeans:
    """What k-means found.

    `labels` [n] int64 number the centre nearest to each point, `centres` [k, d] are the means of their points,
    `inertia` is the sum of squared distances to them, `iterations` how many passes were taken.
    """

    labels: Tensor
    centres: Tensor
    inertia: float
    iterations: int


def kmeans(
    x: Tensor,
    n_clusters: int,
    *,
    init: str | Tensor = "k-means++",
    algorithm: str = "auto",
    batch_size: int | None = None,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    memory_limit: int = 512 * MIB,
) -> KMeans:
    """Divide points x [n, d] among `n_clusters` centres so that squared distances are small.

    `init` is "k-means++" (Arthur and Vassilvitskii 2007: each centre is a point drawn with odds of its squared distance
    from those there are, the best of a few), "random" (points without replacement) or centres [k, d]. "lloyd" computes
    all distances in every pass, on any device; "elkan", on the CPU, leaves out those that bounds from the passes before
    rule out (Elkan 2003), with the same result; "auto" takes it in more than 64 dimensions, where its bounds fit in
    `memory_limit` bytes. With `batch_size` a pass sees so many points, drawn at random, and moves each centre by its
    mean over all that it has seen (Sculley 2010). A centre that has lost its points moves to the point farthest from
    its own.

    It ends when no label changes, when the centres' squared moves sum to at most `tol` times the mean variance of the
    columns, or after `max_iter` passes. Results depend on `seed`, and not on how the work is split. Computing is in the
    dtype of x, float32 at least. Raises TypeError and ValueError for what is no finite table of numbers, more clusters
    than points, an unknown init or algorithm, and a memory limit too small for one row.
    """
    data = check.table(x)
    k = check.at_most("n_clusters", check_count("n_clusters", n_clusters), len(data), "points")
    check_choice("algorithm", algorithm, ALGORITHMS)
    max_iter = check_count("max_iter", max_iter)
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}")
    rows = check.rows_within(memory_limit, (2 * k + data.shape[1]) * data.element_size())
    generator = torch.Generator().manual_seed(seed)
    origin = data.mean(dim=0)
    data = data - origin  # far from 0, products would lose digits
    start = _start(data, k, init, origin, generator)
    limit = tol * data.var(dim=0, correction=0).mean().item()
    if batch_size is not None:
        size = min(check_count("batch_size", batch_size), len(data))
        centres, iterations = _mini_batches(data, start, size, max_iter, limit, generator)
        labels = nearest(data, centres, rows)
    else:
        fits = data.device.type == "cpu" and elkan.bytes_needed(len(data), k) <= memory_limit
        if algorithm == "elkan" and not fits:
            raise ValueError(
                f"algorithm 'elkan' is for the CPU and needs {elkan.bytes_needed(len(data), k)} bytes for its bounds, "
                f"got data on {data.device} and a memory limit of {memory_limit}: use 'lloyd' or 'auto'"
            )
        bounded = algorithm == "elkan" or (algorithm == "auto" and fits and not close.fits(data))
        assign = elkan.Bounds(data, rows) if bounded else partial(nearest, data, rows=rows)
        centres, iterations = _passes(data, start, assign, rows, max_iter, limit)
        labels = assign(centres)
    dtype = x.dtype if x.is_floating_point() else data.dtype
    return KMeans(
        labels, (centres + origin).to(dtype), _squares(data, centres, labels, rows).double().sum().item(), iterations
    )


def nearest(data: Tensor, centres: Tensor, rows: int) -> Tensor:
    """Return for each point [n, d] the number of the nearest of centres [k, d], the first of equals."""
    if close.fits(data):
        return close.nearest(data, centres)
    norms = centres.square().sum(dim=1)
    return torch.cat([torch.addmm(norms, part, centres.T, alpha=-2).argmin(dim=1) for part in data.split(rows)])


def _squares(data: Tensor, centres: Tensor, labels: Tensor, rows: int) -> Tensor:
    """Return the squared distance of each point [n, d] from its centre, as differences."""
    parts = zip(data.split(rows), labels.split(rows), strict=True)
    return torch.cat([(part - centres[own]).square().sum(dim=1) for part, own in parts])


def _start(data: Tensor, k: int, init: str | Tensor, origin: Tensor, generator: torch.Generator) -> Tensor:
    """Return the first centres [k, d], less the origin."""
    if isinstance(init, Tensor):
        if init.shape != (k, data.shape[1]) or not init.isfinite().all():
            raise ValueError(f"init must be finite centres [{k}, {data.shape[1]}], got {list(init.shape)}")
        return init.to(data) - origin
    check_choice("init", init, ("k-means++", "random"))
    if init == "random":
        return data[torch.randperm(len(data), generator=generator)[:k].to(data.device)]
    return plus_plus(data, k, generator)


def plus_plus(data: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw k of the points [n, d], each with odds of its squared distance from those drawn before.

    Of 2 + ln k candidates the one is taken that leaves the smallest sum, as in scikit-learn (section 5 of the paper).
    """
    trials = 2 + int(torch.tensor(float(k)).log())
    first = torch.randint(len(data), (1,), generator=generator).to(data.device)
    chosen, apart = [first], (data - data[first]).square().sum(dim=1)
    norms = data.square().sum(dim=1)
    while len(chosen) < k:
        total = apart.double().cumsum(dim=0)
        drawn = torch.rand(trials, generator=generator, dtype=torch.float64).to(data.device) * total[-1]
        candidates = torch.searchsorted(total, drawn).clamp(max=len(data) - 1)
        left = torch.addmm(norms[:, None] + norms[candidates], data, data[candidates].T, alpha=-2).clamp(min=0)
        left = torch.minimum(left, apart[:, None])  # [n, trials]
        best = left.sum(dim=0).argmin()
        apart = left[:, best]
        chosen.append(candidates[best][None])
        apart[chosen[-1]] = 0
    return data[torch.cat(chosen)]


def _passes(
    data: Tensor, centres: Tensor, assign: Callable[[Tensor], Tensor], rows: int, max_iter: int, limit: float
) -> tuple[Tensor, int]:
    """Move centres until they rest; return them and the number of passes."""
    k = len(centres)
    labels = torch.full((len(data),), -1, device=data.device)
    sums, counts = torch.zeros_like(centres, dtype=torch.float64), torch.zeros(k, dtype=torch.int64, device=data.device)
    for iteration in range(1, max_iter + 1):
        found = assign(centres)
        changed = (found != labels).nonzero()[:, 0]
        if not len(changed):
            return centres, iteration
        _count(data, labels, changed, sums, counts, -1, rows)
        _count(data, found, changed, sums, counts, 1, rows)
        labels = found
        if not counts.all():
            _fill(data, labels, _squares(data, centres, labels, rows), sums, counts)
        moved = torch.where(counts[:, None] > 0, sums / counts[:, None], centres.double()).to(data)
        shift = (moved - centres).square().sum().item()
        centres = moved
        if shift <= limit:
            return centres, iteration
    return centres, max_iter


def _count(data: Tensor, labels: Tensor, which: Tensor, sums: Tensor, counts: Tensor, sign: int, rows: int) -> None:
    """Add points to the sums of their labels, or take them away; those with label -1 have none."""
    for part in which[labels[which] >= 0].split(rows):
        sums.index_add_(0, labels[part], data[part].double(), alpha=sign)
        counts.add_(torch.bincount(labels[part], minlength=len(counts)), alpha=sign)


def _fill(data: Tensor, labels: Tensor, squares: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Give each centre that has lost its points the one farthest from its own."""
    for empty in (counts == 0).nonzero()[:, 0].tolist():
        apart = torch.where(counts[labels] > 1, squares, -1)
        far = int(apart.argmax())
        if apart[far] <= 0:
            return  # fewer different points than centres: it stays where it is
        sums[labels[far]] -= data[far]
        counts[labels[far]] -= 1
        sums[empty], counts[empty] = data[far].double(), 1
        labels[far], squares[far] = empty, 0


def _mini_batches(
    data: Tensor, centres: Tensor, size: int, max_iter: int, limit: float, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Move centres by random batches, each by the mean of all that it has seen; return them and the batches."""
    centres, seen = centres.clone(), torch.zeros(len(centres), dtype=torch.float64, device=data.device)
    for iteration in range(1, max_iter + 1):
        batch = data[torch.randint(len(data), (size,), generator=generator).to(data.device)]
        labels = nearest(batch, centres, size)
        counts = torch.bincount(labels, minlength=len(centres)).double()
        seen += counts
        means = torch.zeros_like(centres).index_add_(0, labels, batch) / counts.clamp(min=1)[:, None].to(batch)
        moved = centres.lerp(means, (counts / seen.clamp(min=1))[:, None].to(batch))
        shift = (moved - centres).square().sum().item()
        centres = moved
        if shift <= limit * size / len(data):
            return centres, iteration
    return centres, max_iter
