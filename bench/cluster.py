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

from lib import gpu
from lib.cluster.backends import cells, full, grid
from lib.cluster.mean_shift import Clusters, mean_shift
from lib.measure import Record, compare

SEED, SIDE, BLOBS = 0, 20.0, 20
SPREAD, BANDWIDTH = 0.7, 0.6  # of the blobs and of the Gaussian in the growth
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PEAK = """
import sys
from bench import cluster
n = int(sys.argv[1])
cluster.mean_shift(cluster.blobs(n, cluster.SPREAD), cluster.BANDWIDTH)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def blobs(n: int, spread: float = 0.5, larger: float = 1.0) -> Tensor:
    """Return n points in blobs with random centres: float64 [n, 2].

    There are 20 in a square of side 20, and as many to its area in one that is `larger` by that factor.
    """
    generator, count = torch.Generator().manual_seed(SEED), round(BLOBS * larger)
    centres = torch.rand(count, 2, generator=generator, dtype=torch.float64) * SIDE * math.sqrt(larger)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return centres[torch.randint(count, (n,), generator=generator)] + spread * noise


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure the flat kernel against scikit-learn, and the growth of the Gaussian's time and memory."""
    say("measuring cluster/mean-shift/1500, 7 pairs")
    yield against("1500", "scikit-learn", {}, pairs=7, target="<= 0.05")
    say("measuring cluster/mean-shift/30000, 15 pairs")
    yield against("30000", "scikit-learn bin_seeding", {"bin_seeding": True}, pairs=15, target="<= 0.5")
    say(f"measuring cluster/nearest-growth, {SIZES[0]:,} to {SIZES[-1]:,} points, twice")
    yield growth("nearest-growth", "the same square, so twice the points are twice as dense", lambda n: 1.0)
    say("measuring its memory")
    yield _memory()
    say("measuring cluster/nearest-growth/constant-density, twice")
    description = "a square, and a number of blobs, that grow with the points"
    yield growth("nearest-growth/constant-density", description, lambda n: n / SIZES[0])


def gpu_records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure the full algorithm on the GPU: against scikit-learn, and against our own CPU."""
    say("measuring cluster/mean-shift/gpu/1500, 7 pairs")
    yield against("gpu/1500", "scikit-learn", {}, pairs=gpu.scaled(7), device=gpu.device())
    say("measuring cluster/mean-shift/gpu, 7 pairs")
    yield _gpu()


def against(
    size: str,
    peer: str,
    options: dict[str, Any],
    pairs: int,
    target: str | None = None,
    bandwidth: float = 1.0,
    device: torch.device | str = "cpu",
) -> Record:
    """Compare a whole clustering; `size` ends with the number of points, and theirs is on the CPU."""
    x = blobs(gpu.scaled(int(size.rpartition("/")[2]), 150))
    ours = partial(mean_shift, x.to(device), bandwidth, "flat")
    theirs = partial(MeanShift(bandwidth=bandwidth, **options).fit, x.numpy())
    found, expected = ours(), theirs()
    agreement = adjusted_rand_score(expected.labels_, found.labels.cpu())
    there = x.to(device)
    on_cpu = there.device.type == "cpu"
    near = cells.shift(x, bandwidth, "flat") if on_cpu else full.shift(there, bandwidth, "flat", 200)
    exact = full.shift(x, bandwidth, "flat", 200)
    off = apart(x, lambda points: (near(points.to(device))[0].cpu(), None), exact, bandwidth)
    timing = compare(ours, theirs, pairs=pairs, warmup=1, sync=gpu.synchronize)
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


def apart(x: Tensor, near: full.Shift, exact: full.Shift, bandwidth: float, steps: int = 1, count: int = 200) -> float:
    """Return how far some points are from where exact steps would take them, in bandwidths."""
    ours = theirs = x[:: max(1, len(x) // count)]
    for _ in range(steps):
        ours, theirs = near(ours)[0], exact(theirs)[0]
    return ((ours - theirs).norm(dim=1).max() / bandwidth).item()


def growth(name: str, description: str, larger: Callable[[int], float], repeats: int = 2) -> Record:
    """Fit the exponent of the time over the number of points, and compare steps with exact ones."""
    mean_shift(blobs(100), BANDWIDTH)
    data, seconds = {n: blobs(n, SPREAD, larger(n)) for n in SIZES}, {n: [] for n in SIZES}
    for _ in range(repeats):
        for n, x in data.items():
            start = time.perf_counter()
            found = mean_shift(x, BANDWIDTH)
            seconds[n].append(time.perf_counter() - start)
    medians = {n: statistics.median(values) for n, values in seconds.items()}
    measured = ", ".join(f"{n:,}: {value:.2f} s" for n, value in medians.items())
    steps = {n: (grid.shift(x, BANDWIDTH), full.shift(x, BANDWIDTH, "gaussian", 20)) for n, x in data.items()}
    worst = max(apart(data[n], *both, BANDWIDTH) for n, both in steps.items())
    ends = apart(data[SIZES[0]], *steps[SIZES[0]], BANDWIDTH, steps=100)
    return Record(
        f"cluster/{name}",
        exponent(medians),
        "exponent",
        same=max(worst, ends) <= 1e-3,
        target="<= 1.15",
        n=repeats,
        seed=SEED,
        note=f"Gaussian, bandwidth {BANDWIDTH:g}, {description} ({found.algorithm}); {measured}; a step is within "
        f"{worst:.0e} bandwidths of the exact one (200 points a size), a hundred steps "
        f"within {ends:.0e} (200 of {SIZES[0]:,})",
    )


def exponent(values: dict[int, float]) -> float:
    """Return the power of n that values grow with, as a line through their logarithms has it."""
    return float(np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0])


def _memory(sizes: tuple[int, ...] = (250_000, 500_000, 1_000_000)) -> Record:
    """Measure the peak of processes of their own (Linux counts it in KiB), less that of one with few points."""
    peaks = {n: int(subprocess.check_output([sys.executable, "-c", PEAK, str(n)], text=True)) for n in (100, *sizes)}
    more = {n: peaks[n] - peaks[100] for n in sizes}
    measured = ", ".join(f"{n:,}: {value / 2**10:.0f} MiB" for n, value in more.items())
    return Record(
        "cluster/nearest-growth/memory",
        exponent(more),
        "exponent",
        target="<= 1.15",
        n=1,
        seed=SEED,
        note=f"peak memory of a process, more than one with 100 points in the same square: {measured}",
    )


def _gpu() -> Record:
    """Compare the full algorithm on the GPU and on the CPU."""
    x = blobs(gpu.scaled(10_000, 200))
    there = x.to(gpu.device())
    run: Callable[[Tensor], Clusters] = partial(mean_shift, bandwidth=BANDWIDTH, algorithm="full", max_iter=20)
    same = adjusted_rand_score(run(x).labels, run(there).labels.cpu()) >= 0.99
    timing = compare(lambda: run(there), lambda: run(x), pairs=gpu.scaled(7), warmup=1, sync=gpu.synchronize)
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
