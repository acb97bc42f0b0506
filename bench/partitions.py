"""k-means and DBSCAN against scikit-learn and faiss: same starts, same answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from sklearn import cluster as theirs
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from bench.points import SEED, blobs, garments, growth, mixture, timed
from lib.cluster.dbscan import dbscan
from lib.cluster.kmeans import kmeans, nearest
from lib.cluster.neighbours import knn
from lib.measure import Record, compare

PASSES, CENTRES = 20, 256
SIZES = (10_000, 100_000, 1_000_000)


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure k-means for many and for few centres, DBSCAN for two sizes, and how their times grow."""
    x, _ = garments()
    say("measuring cluster/kmeans, 5 pairs")
    yield many_centres(x, CENTRES, pairs=5)
    say("measuring cluster/kmeans/10, 5 pairs")
    yield to_the_end(x, 10, pairs=5)
    for n, pairs, target in ((30_000, 7, "<= 0.333"), (1_000_000, 3, "<= 0.1")):
        say(f"measuring cluster/dbscan/{n}, {pairs} pairs")
        yield density(n, pairs, target)
    say("measuring how times grow")
    yield growth(
        "kmeans",
        "100 centres, 10 passes, 32 dimensions",
        SIZES,
        lambda n: partial(kmeans, mixture(n, 32), 100, init="random", max_iter=10, tol=0),
    )
    yield growth("dbscan", "as cluster/dbscan", SIZES, lambda n: partial(dbscan, *_dense(n)))


def many_centres(x: Tensor, k: int, pairs: int) -> Record:
    """Compare a number of passes from the same starts, with the faster of scikit-learn and faiss."""
    starts = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))[:k]].contiguous()
    ours = partial(kmeans, x, k, init=starts, max_iter=PASSES, tol=0)
    sides = {
        "faiss": lambda: _faiss(x, starts),
        **{f"scikit-learn {name}": partial(_sklearn, x, starts, name, PASSES, 0) for name in ("lloyd", "elkan")},
    }
    peer, seconds = _fastest(sides)
    inertia = _inertia(x, sides[peer]())
    found = ours()
    ratio = found.inertia / inertia
    note = (
        f"{len(x):,} x {x.shape[1]}, k = {k}, {PASSES} passes, same starts; inertia {found.inertia:.5g}, theirs "
        f"{inertia:.5g} (ratio {ratio:.5f}); once each: {seconds}"
    )
    timing = compare(ours, sides[peer], pairs=pairs, warmup=0)
    return timed("kmeans", timing, peer, abs(ratio - 1) <= 0.005, note, "<= 1.0")


def to_the_end(x: Tensor, k: int, pairs: int) -> Record:
    """Compare passes until the centres rest, with the faster of scikit-learn's two ways."""
    starts = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))[:k]].contiguous()
    ours = partial(kmeans, x, k, init=starts)
    sides = {f"scikit-learn {name}": partial(_sklearn, x, starts, name, 300, 1e-4) for name in ("lloyd", "elkan")}
    peer, seconds = _fastest(sides)
    found, inertia = ours(), _inertia(x, sides[peer]())
    note = (
        f"{len(x):,} x {x.shape[1]}, k = {k}, until the centres rest (ours: {found.iterations} passes), same starts; "
        f"inertia {found.inertia:.5g}, theirs {inertia:.5g}; once each: {seconds}"
    )
    timing = compare(ours, sides[peer], pairs=pairs, warmup=0)
    return timed(f"kmeans/{k}", timing, peer, abs(found.inertia / inertia - 1) <= 0.005, note, "<= 1.0")


def density(n: int, pairs: int, target: str | None = None) -> Record:
    """Compare DBSCAN on blobs in a plane."""
    x, eps, least = _dense(n)
    ours = partial(dbscan, x, eps, least)
    peer = theirs.DBSCAN(eps=eps, min_samples=least)
    labels, expected = ours().labels, peer.fit(x.numpy()).labels_
    note = (
        f"{n:,} points in 50 blobs in 2-D, float64, eps {eps:.3g} (about 15 neighbours), min_samples {least}: "
        f"{int(labels.max()) + 1:,} clusters, {(labels < 0).float().mean():.1%} noise; adjusted Rand index "
        f"{adjusted_rand_score(expected, labels):.6f}, labels equal: {bool((labels.numpy() == expected).all())}"
    )
    same = adjusted_rand_score(expected, labels) == 1 and bool(((labels < 0).numpy() == (expected < 0)).all())
    timing = compare(ours, partial(peer.fit, x.numpy()), pairs=pairs, warmup=0)
    return timed(f"dbscan/{n}", timing, "scikit-learn", same, note, target)


def _dense(n: int) -> tuple[Tensor, float, int]:
    """Return points, the mean distance to the fifteenth neighbour, and how many make a point a core point."""
    x = blobs(n, count=50)
    return x, knn(x[:500], x, min(16, n)).distances[:, -1].mean().item(), 10


def _sklearn(x: Tensor, starts: Tensor, algorithm: Any, passes: int, tol: float) -> Tensor:
    model = theirs.KMeans(len(starts), init=starts.numpy(), n_init=1, max_iter=passes, tol=tol, algorithm=algorithm)
    return torch.from_numpy(model.fit(x.numpy()).cluster_centers_)


def _faiss(x: Tensor, starts: Tensor) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    model = faiss.Kmeans(x.shape[1], len(starts), niter=PASSES, max_points_per_centroid=len(x))
    model.train(x.numpy(), init_centroids=starts.numpy())
    return torch.from_numpy(model.centroids)


def _inertia(x: Tensor, centres: Tensor) -> float:
    return (x - centres[nearest(x, centres, 2**14)]).double().square().sum().item()


def _fastest(sides: dict[str, Callable[[], object]]) -> tuple[str, str]:
    """Return which is fastest, each run once after a warm-up, and the seconds in words."""
    seconds = {}
    for name, side in sides.items():
        start = time.perf_counter()
        side()
        seconds[name] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__), ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
