"""Clustering and nearest neighbours against scikit-learn and faiss; how the time of mean shift grows."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from skimage.color import rgb2lab
from sklearn.cluster import MeanShift
from sklearn.datasets import load_sample_image, make_moons
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from bench import partitions, searches
from bench.points import SEED, blobs, exponent, timed
from lib import gpu
from lib.cluster.backends import cells, full, grid
from lib.cluster.mean_shift import Clusters, mean_shift
from lib.measure import Record, compare

SPREAD, BANDWIDTH = 0.7, 0.6  # of the blobs and of the Gaussian in the growth
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PEAK = """
import sys
from bench import cluster
n = int(sys.argv[1])
cluster.mean_shift(cluster.blobs(n, cluster.SPREAD), cluster.BANDWIDTH)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure mean shift, then the other ways of clustering and of finding neighbours, each against what there is."""
    say("measuring cluster/mean-shift/1500, 7 pairs")
    yield against("1500", "scikit-learn", {}, pairs=7, target="<= 0.05")
    say("measuring cluster/mean-shift/30000, 15 pairs")
    yield against("30000", "scikit-learn bin_seeding", {"bin_seeding": True}, pairs=15, target="<= 0.4")
    say(f"measuring cluster/nearest-growth, {SIZES[0]:,} to {SIZES[-1]:,} points, twice")
    yield growth("nearest-growth", "the same square, so twice the points are twice as dense", lambda n: 1.0)
    say("measuring its memory")
    yield _memory()
    say("measuring cluster/nearest-growth/constant-density, twice")
    description = "a square, and a number of blobs, that grow with the points"
    yield growth("nearest-growth/constant-density", description, lambda n: n / SIZES[0])
    for name, x, bandwidth in shapes():
        say(f"measuring cluster/mean-shift/{name}, 3 pairs")
        yield no_blobs(name, x, bandwidth)
    yield from partitions.records(say)
    yield from searches.records(say)


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
    note = (
        f"{len(x):,} points in 2-D, flat kernel, bandwidth {bandwidth:g}, all points climb ({found.algorithm}); "
        f"adjusted Rand index of the labels {agreement:.4f}; a step differs from the full one by {off:.0e} bandwidths"
    )
    return timed(f"mean-shift/{size}", timing, peer, agreement >= 0.99 and off < 1e-9, note, target)


def shapes() -> Iterator[tuple[str, Tensor, float]]:
    """Yield what is no blob, with a bandwidth: a photograph's colours, moons, lines, and a grid of duplicates."""
    generator = torch.Generator().manual_seed(SEED)
    colours = torch.from_numpy(rgb2lab(load_sample_image("flower.jpg")[::10, ::10])).reshape(-1, 3)
    yield "colours", colours, 7.0
    yield "moons", torch.from_numpy(make_moons(2000, noise=0.05, random_state=SEED)[0]), 0.3
    along = torch.rand(2000, 1, generator=generator, dtype=torch.float64) * 10
    slope = torch.randint(4, (2000, 1), generator=generator)
    yield "lines", torch.cat([along, along * (slope - 1.5) + 8 * slope], dim=1), 1.5
    places = torch.cartesian_prod(torch.arange(12.0), torch.arange(12.0)).double()
    yield "duplicates", places[torch.randint(len(places), (2000,), generator=generator)], 2.5


def no_blobs(name: str, x: Tensor, bandwidth: float, pairs: int = 3) -> Record:
    """Compare a whole clustering with scikit-learn's, from every point, and tell how far the two agree."""
    ours, theirs = partial(mean_shift, x, bandwidth, "flat"), partial(MeanShift(bandwidth=bandwidth).fit, x.numpy())
    found, expected = ours(), theirs()
    agreement = adjusted_rand_score(expected.labels_, found.labels)
    note = (
        f"{len(x):,} points in {x.shape[1]}-D ({len(x.unique(dim=0)):,} different), flat kernel, bandwidth "
        f"{bandwidth:g}; clusters {len(found.centres)}, theirs {len(expected.cluster_centers_)}; adjusted Rand index "
        f"{agreement:.4f}, same means at least 0.99"
    )
    return timed(
        f"mean-shift/{name}", compare(ours, theirs, pairs=pairs, warmup=0), "scikit-learn", agreement >= 0.99, note
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
    note = f"{len(x):,} points in 2-D, Gaussian, every point against all, 20 steps, float64"
    return timed("mean-shift/gpu", timing, "our CPU", same, note)
