"""Searches that do not look at everything: product quantisation, inverted lists and hashing, and mean shift by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from bench.points import SEED, features, garments, growth, mixture, recall, timed
from lib.cluster.inverted import build_lists
from lib.cluster.lsh import build_lsh
from lib.cluster.mean_shift import mean_shift
from lib.cluster.neighbours import Neighbours, knn
from lib.cluster.quantise import train_quantizer
from lib.measure import Record, compare

LISTS, PROBES, PIECES = 256, 8, 56
TABLES, BITS, WIDTH, BUCKETS = 20, 16, 17.0, 13  # of hashing: chosen on other queries than those measured
BANDWIDTH, NEAR = 1.0, 200  # of mean shift among features, and the neighbours that a step sees
SIZES = (10_000, 100_000, 1_000_000)


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure building and searching against faiss, hashing against exact search, and mean shift against itself."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    x, asked = garments()
    exact = knn(asked, x, 10)
    for pieces in (16, PIECES):
        say(f"measuring cluster/pq{pieces}")
        yield from quantised(x, asked, exact, pieces)
    say("measuring cluster/ivf-pq")
    yield from inverted(x, asked, exact)
    say("measuring cluster/lsh")
    yield from hashed(x, asked, exact)
    say("measuring cluster/mean-shift/pq")
    yield from mean_shifts(features())
    say("measuring how times grow")
    yield from growths()


def quantised(x: Tensor, asked: Tensor, exact: Neighbours, pieces: int, pairs: int = 3) -> Iterator[Record]:
    """Compare product quantisation with as many bytes a vector: training and encoding, searching, what is found."""

    def build() -> tuple:
        quantizer = train_quantizer(x, pieces)
        return quantizer, quantizer.encode(x)

    quantizer, codes = build()
    ours, theirs = Side(build, partial(quantizer.search, asked, codes)), partial(_faiss, x, f"PQ{pieces}")
    yield from _both(f"pq{pieces}", ours, theirs, asked, exact, f"{len(x):,} x {x.shape[1]}", pairs, 1.5)


def inverted(x: Tensor, asked: Tensor, exact: Neighbours, pairs: int = 3) -> Iterator[Record]:
    """Compare inverted lists of product-quantised residuals."""
    build = partial(build_lists, x, LISTS, n_subvectors=PIECES)
    ours = Side(build, partial(build().search, asked, n_probes=PROBES))
    theirs = partial(_faiss, x, f"IVF{LISTS},PQ{PIECES}")
    what = f"{len(x):,} x {x.shape[1]}, {LISTS} lists, {PIECES} bytes, {PROBES} probes"
    yield from _both("ivf-pq", ours, theirs, asked, exact, what, pairs, 2.0)


def hashed(x: Tensor, asked: Tensor, exact: Neighbours, pairs: int = 5) -> Iterator[Record]:
    """Measure what hashing finds, how much it looks at, and its time beside looking at everything."""
    index = build_lsh(x, n_tables=TABLES, n_bits=BITS, width=WIDTH, seed=SEED)
    search = partial(index.search, asked, 10, n_probes=BUCKETS)
    found = search()
    share, got = found.compared.float().mean().item() / len(x), recall(found.indices, exact.indices)
    what = (
        f"10 nearest of {len(x):,} x {x.shape[1]}, {len(asked):,} queries, p-stable, {TABLES} tables, {BITS} hashes a "
        f"key, width {WIDTH:g}, {BUCKETS} buckets a table; recall {got:.3f}, {share:.2%} of the base looked at, "
        f"distinct candidates counted"
    )
    note = f"{what}; at most {found.compared.max() / len(x):.1%} for a query"
    yield Record("cluster/lsh", 100 * share, "%", same=got >= 0.9, target="<= 7", seed=SEED, n=len(asked), note=note)
    timing = compare(search, partial(knn, asked, x, 10), pairs=pairs, warmup=1)
    yield timed("lsh/search", timing, "exact search, ours", got >= 0.9, what)


def mean_shifts(x: Tensor, bandwidth: float = BANDWIDTH, pairs: int = 3) -> Iterator[Record]:
    """Compare mean shift through product quantisation, and through inverted lists, with the exact one."""
    exact = partial(mean_shift, x, bandwidth)
    answer = exact()
    sizes = answer.labels.bincount(minlength=len(answer.centres))
    quantizer, lists = train_quantizer(x, 16), build_lists(x, 100)
    codes = quantizer.encode(x)
    ways = {
        "pq": partial(quantizer.search, codes=codes, n_neighbors=NEAR),
        "lists": partial(lists.search, n_neighbors=2 * NEAR, n_probes=PROBES),
    }
    for name, way in ways.items():
        ours = partial(mean_shift, x, bandwidth, neighbours=way)
        found = ours()
        agreement = adjusted_rand_score(answer.labels, found.labels)
        timing = compare(ours, exact, pairs=pairs, warmup=0)
        described = {
            "pq": f"16 bytes a vector, {NEAR} neighbours a step",
            "lists": f"100 inverted lists, {PROBES} probes, {2 * NEAR} neighbours a step, vectors kept",
        }[name]
        note = (
            f"{len(x):,} x {x.shape[1]} features, Gaussian, bandwidth {bandwidth:g}: the exact answer has "
            f"{int((sizes > len(x) / 100).sum())} clusters above 1%; {described}, all points climb; adjusted Rand "
            f"index {agreement:.3f}, same means at least 0.95"
        )
        yield timed(f"mean-shift/{name}", timing, "exact mean shift, ours", agreement >= 0.95, note, "<= 0.2")


def growths() -> Iterator[Record]:
    """Measure how the time of 1,000 queries, and of building, grows with the base."""
    d, asked = 32, mixture(1000, 32)

    def everything(n: int) -> Callable[[], object]:
        return partial(knn, asked, mixture(n, d), 10)

    def hashes(n: int) -> Callable[[], object]:
        return partial(build_lsh(mixture(n, d), n_tables=8, n_bits=16).search, asked, 10)

    def lists(n: int) -> Callable[[], object]:
        return partial(build_lists(mixture(n, d), round(n**0.5)).search, asked, 10)

    def codes(n: int) -> Callable[[], object]:
        x = mixture(n, d)
        quantizer = train_quantizer(x, 8, max_iter=5)
        return partial(quantizer.search, asked, quantizer.encode(x), 10)

    yield growth("knn", "1,000 queries, 10 neighbours, 32 dimensions", SIZES, everything)
    yield growth("lsh", "search for 1,000 queries, 8 tables of 16 hashes, 32 dimensions", SIZES, hashes)
    yield growth("lists", "search for 1,000 queries, as many lists as the root of n, 8 probes", SIZES, lists)
    yield growth("pq", "search for 1,000 queries, 8 bytes a vector", SIZES, codes)


@dataclass(frozen=True)
class Side:
    """How an index is built, and a search in one: a number of neighbours -> Neighbours."""

    build: Callable[[], object]
    search: Callable[..., Neighbours]


def _both(
    name: str,
    ours: Side,
    theirs: Callable[[], Any],
    asked: Tensor,
    exact: Neighbours,
    what: str,
    pairs: int,
    target: float,
) -> Iterator[Record]:
    """Yield the records of building, searching and finding, for one index of ours and one of faiss."""
    index, first = theirs(), exact.indices[:, :1]
    found = recall(ours.search(n_neighbors=1).indices, first)
    expected = recall(torch.from_numpy(index.search(asked.numpy(), 1)[1]), first)
    same = abs(found - expected) <= 0.02
    note = f"{what}; recall@1 of {len(asked):,} queries {found:.3f}, faiss {expected:.3f}; same means within 0.02"
    timing = compare(ours.build, theirs, pairs=pairs, warmup=0)
    yield timed(f"{name}/build", timing, "faiss", same, f"training and encoding, {note}", "<= 2.0")
    timing = compare(partial(ours.search, n_neighbors=10), partial(index.search, asked.numpy(), 10), pairs=7, warmup=1)
    yield timed(f"{name}/search", timing, "faiss", same, f"10 nearest, {note}", f"<= {target}")


def _faiss(x: Tensor, description: str) -> Any:
    """Return an index of faiss over x, trained on it."""
    import faiss

    index = faiss.index_factory(x.shape[1], description)
    index.train(x.numpy())
    index.add(x.numpy())
    if description.startswith("IVF"):
        index.nprobe = PROBES
    return index
