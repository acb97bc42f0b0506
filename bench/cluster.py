"""Clustering against scikit-learn, and how the time of mean shift grows with the number of points."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.cluster import MeanShift
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from lib.cluster import Clusters, cells, field, full, mean_shift
from lib.measure import Record, compare

SEED, SIDE, BLOBS = 0, 20.0, 20
BANDWIDTH = 0.6  # of the Gaussian in the growth, in a square of this side
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PEAK = """
import sys
from bench import cluster
n = int(sys.argv[1])
cluster.mean_shift(cluster.blobs(n or 100), cluster.BANDWIDTH)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def blobs(n: int, spread: float = 0.5, side: float = SIDE) -> Tensor:
    """Return n points in blobs with random centres in a square: float64 [n, 2]."""
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.rand(BLOBS, 2, generator=generator, dtype=torch.float64) * side
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return centres[torch.randint(BLOBS, (n,), generator=generator)] + spread * noise


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure the flat kernel against scikit-learn, and the growth of the Gaussian's time and memory."""
    say("measuring cluster/mean-shift/1500, 7 pairs")
    yield _against("1500", "scikit-learn", {}, pairs=7, target="<= 0.05")
    say("measuring cluster/mean-shift/30000, 15 pairs")
    yield _against("30000", "scikit-learn bin_seeding", {"bin_seeding": True}, pairs=15, target="<= 0.5")
    say(f"measuring cluster/nearest-growth, {SIZES[0]:,} to {SIZES[-1]:,} points, twice")
    yield _growth("nearest-growth", "the same square, so twice the points are twice as dense", lambda n: SIDE)
    side = partial(_side_of_constant_density, SIZES[0])
    yield _growth("nearest-growth/constant-density", "a square that grows with the points", side)
    if torch.cuda.is_available():
        say("measuring cluster/mean-shift/gpu, 7 pairs")
        yield _gpu()


def _against(size: str, peer: str, options: dict[str, Any], pairs: int, target: str, bandwidth: float = 1.0) -> Record:
    x = blobs(int(size))
    mine = partial(mean_shift, x, bandwidth, "flat")
    theirs = partial(MeanShift(bandwidth=bandwidth, **options).fit, x.numpy())
    found, expected = mine(), theirs()
    agreement = adjusted_rand_score(expected.labels_, found.labels)
    off = _off(x, cells.shift(x, bandwidth, "flat"), full.shift(x, bandwidth, "flat", 200), bandwidth)
    timing = compare(mine, theirs, pairs=pairs, warmup=1)
    return Record(
        f"cluster/mean-shift/{size}",
        timing.ratio,
        "time ratio",
        peer=peer,
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=agreement >= 0.99 and off < 1e-9,
        target=target,
        n=timing.n,
        seed=SEED,
        note=f"{len(x):,} points in 2-D, flat kernel, bandwidth {bandwidth:g}, all points climb ({found.algorithm}); "
        f"adjusted Rand index of the labels {agreement:.4f}; a step differs from the full one by {off:.0e} bandwidths",
    )


def _off(x: Tensor, step: full.Shift, exact: full.Shift, bandwidth: float, count: int = 200) -> float:
    """Return how far a step of some points is from the exact one, in bandwidths."""
    some = x[:: max(1, len(x) // count)]
    return ((step(some)[0] - exact(some)[0]).norm(dim=1).max() / bandwidth).item()


def _side_of_constant_density(first: int, n: int) -> float:
    return SIDE * math.sqrt(n / first)


def _growth(name: str, about: str, side: Callable[[int], float], repeats: int = 2) -> Record:
    """Fit the exponent of the time over the number of points."""
    mean_shift(blobs(100), BANDWIDTH)
    seconds, worst, found = {n: [] for n in SIZES}, 0.0, None
    for _ in range(repeats):
        for n in SIZES:
            x = blobs(n, spread=0.7 * side(n) / SIDE, side=side(n))
            start = time.perf_counter()
            found = mean_shift(x, BANDWIDTH)
            seconds[n].append(time.perf_counter() - start)
            off = _off(x, field.shift(x, BANDWIDTH), full.shift(x, BANDWIDTH, "gaussian", 20), BANDWIDTH)
            worst = max(worst, off)
    medians = {n: statistics.median(values) for n, values in seconds.items()}
    told = ", ".join(f"{n:,}: {value:.2f} s" for n, value in medians.items())
    return Record(
        f"cluster/{name}",
        _exponent(medians),
        "exponent",
        same=worst <= 1e-3,
        target="<= 1.15",
        n=repeats,
        seed=SEED,
        note=f"Gaussian, bandwidth {BANDWIDTH:g}, {about} ({found.algorithm}); {told}; a step differs from the exact "
        f"one by at most {worst:.0e} bandwidths (200 points a size); {_memory()}",
    )


def _exponent(values: dict[int, float]) -> float:
    return float(np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0])


def _memory(sizes: tuple[int, ...] = (250_000, 500_000, 1_000_000)) -> str:
    """Measure the peak of processes of their own (Linux counts it in KiB), less that of one with few points."""
    peaks = {n: int(subprocess.check_output([sys.executable, "-c", PEAK, str(n)], text=True)) for n in (0, *sizes)}
    more = {n: peaks[n] - peaks[0] for n in sizes}
    told = ", ".join(f"{n:,}: {value / 2**10:.0f} MiB" for n, value in more.items())
    return f"peak memory above that of few points in the same square {told} (exponent {_exponent(more):.2f})"


def _gpu() -> Record:
    """Compare the full algorithm on the GPU and on the CPU."""
    x = blobs(10_000)
    there = x.cuda()
    run: Callable[[Tensor], Clusters] = partial(mean_shift, bandwidth=BANDWIDTH, algorithm="full", max_iter=20)
    same = adjusted_rand_score(run(x).labels, run(there).labels.cpu()) >= 0.99
    timing = compare(lambda: run(there), lambda: run(x), pairs=7, warmup=1, sync=torch.cuda.synchronize)
    return Record(
        "cluster/mean-shift/gpu",
        timing.ratio,
        "time ratio",
        peer="our CPU",
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=same,
        n=timing.n,
        seed=SEED,
        note=f"{len(x):,} points in 2-D, Gaussian, every point against all, 20 steps, float64",
    )
