"""Locality-sensitive hashing: near points often share a bucket, so that only buckets need to be looked into.

A key is made of several hashes of random projections a.x, of their signs for the angle between vectors (Charikar,
"Similarity estimation techniques from rounding algorithms", STOC 2002) or of floor((a.x + b) / width) for their
distance (Datar et al., "Locality-sensitive hashing scheme based on p-stable distributions", SCG 2004). Several tables
catch what one misses, and so do the buckets next to a query's own (Lv et al., "Multi-probe LSH", VLDB 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.checks import check_choice, check_count
from lib.cluster import check
from lib.cluster.neighbours import Neighbours, by_products, knn

MIB = 2**20
METRICS = ("euclidean", "cosine")
MOST_FLIPS = 10  # hashes of a key that probes may change, those nearest to their border: 1024 buckets a table


@dataclass(frozen=True)
class LSH:
    """Rows [n, d] under their keys, in several tables; `build_lsh` makes one.

    `normals` [tables, bits, d] and `offsets` [tables, bits] are the projections, in widths of a bucket where there is
    one; `multipliers` [bits] make one number of the hashes of a table. `keys` [tables, n] are sorted, `order` [tables,
    n] are the rows that they belong to. `rows` are kept less their `centre`, and with length 1 before under "cosine";
    `squares` [n] are those of their lengths.
    """

    metric: str
    normals: Tensor
    offsets: Tensor
    multipliers: Tensor
    keys: Tensor
    order: Tensor
    rows: Tensor
    centre: Tensor
    squares: Tensor

    def candidates(self, queries: Tensor, n_probes: int = 1) -> Tensor:
        """Tell which rows share a bucket with each of queries [m, d]: bool [m, n].

        In each table `n_probes` buckets are looked into: a query's own, and those beyond its nearest borders, in the
        order of the squared distance from them. Raises ValueError for more probes than there are buckets to try.
        """
        queries = check.pair(queries, self.centre[None])[0]
        flips = min(len(self.multipliers), MOST_FLIPS)
        check.at_most("n_probes", check_count("n_probes", n_probes), 2**flips, "buckets that may be probed")
        hashes, past, steps = _hashed(_projected(queries, self.normals, self.offsets), self.metric)
        keys = (hashes * self.multipliers).sum(dim=2)  # [tables, m]
        nearest = past.topk(flips, dim=2, largest=False)
        steps = (steps * self.multipliers).gather(2, nearest.indices)
        subsets = torch.arange(2**flips, device=keys.device)[:, None] >> torch.arange(flips, device=keys.device) & 1
        scores = nearest.values.square() @ subsets.T.to(past)  # [tables, m, subsets]
        chosen = subsets[scores.topk(n_probes, dim=2, largest=False).indices]  # [tables, m, probes, flips]
        probes = keys[:, :, None] + (chosen * steps[:, :, None]).sum(dim=3)
        found = torch.zeros(len(queries), len(self.rows), dtype=torch.bool, device=keys.device)
        for table, order, wanted in zip(self.keys, self.order, probes, strict=True):
            first, last = torch.searchsorted(table, wanted), torch.searchsorted(table, wanted, right=True)
            who, places = _spelled_out(first, last)
            found[who, order[places]] = True
        return found

    def search(
        self, queries: Tensor, n_neighbors: int, *, n_probes: int = 1, memory_limit: int = 512 * MIB
    ) -> Neighbours:
        """Return the nearest of each query's candidates, by Euclidean distance, or by the cosine distance 1 - cos.

        Where there are fewer, the rest have index -1 and an infinite distance. As many queries are taken at a time as
        fit into `memory_limit` bytes.
        """
        queries = check.pair(queries, self.centre[None])[0].to(self.rows)
        k = check.at_most("n_neighbors", check_count("n_neighbors", n_neighbors), len(self.rows), "rows of the data")
        at_once = check.rows_within(memory_limit, 32 * len(self.rows) + 16 * self.normals.shape[0] * 2**MOST_FLIPS)
        if self.metric == "cosine" and not queries.any(dim=1).all():
            raise ValueError("queries must have no rows of zeros under metric 'cosine': they have no angle")
        distances = queries.new_full((len(queries), k), torch.inf)
        indices = torch.full(distances.shape, -1, device=queries.device)
        compared = []
        for first in range(0, len(queries), at_once):
            part = queries[first : first + at_once]
            candidates = self.candidates(part, n_probes)
            compared.append(candidates.sum(dim=1))
            part = (_unit(part) if self.metric == "cosine" else part) - self.centre
            for i, found in enumerate(candidates):
                which = found.nonzero()[:, 0]
                kept = min(k, len(which))
                if kept:
                    rows = self.rows.index_select(0, which)
                    near, order = by_products(part[i : i + 1], rows, self.squares[which], kept)
                    distances[first + i, :kept], indices[first + i, :kept] = near[0], which[order[0]]
        if self.metric == "cosine":
            distances = distances.square() / 2
        return Neighbours(distances, indices, torch.cat(compared))


def build_lsh(
    x: Tensor,
    metric: str = "euclidean",
    *,
    n_tables: int = 8,
    n_bits: int = 12,
    width: float | None = None,
    seed: int = 0,
) -> LSH:
    """Hash the rows of x [n, d] into `n_tables` tables, by keys of `n_bits` hashes each.

    For "cosine" a hash is the side of a random hyperplane through 0. For "euclidean" it is the number of the bucket,
    `width` long, that a random projection falls into; without one, 4 times the mean distance of 100 rows from their
    tenth neighbour. More bits make buckets smaller, more tables make it more likely that near rows share one. Raises
    ValueError for an unknown metric, numbers out of range and, under "cosine", a width or a row of zeros.
    """
    data = check.table(x)
    check_choice("metric", metric, METRICS)
    tables, bits = check_count("n_tables", n_tables), check_count("n_bits", n_bits)
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(tables, bits, data.shape[1], generator=generator, dtype=torch.float64)
    offsets = torch.rand(tables, bits, generator=generator, dtype=torch.float64)
    multipliers = torch.randint(-(2**62), 2**62, (bits,), generator=generator).to(data.device)
    if metric == "euclidean":
        normals /= _width(data, generator) if width is None else check.positive("width", width)
        compared = data
    else:
        if width is not None:
            raise ValueError(f"width is for metric 'euclidean', got {width} with 'cosine'")
        if not data.any(dim=1).all():
            raise ValueError("x must have no rows of zeros under metric 'cosine': they have no angle")
        offsets.zero_()
        compared = _unit(data)
    normals, offsets = normals.to(data), offsets.to(data)
    hashes, _, _ = _hashed(_projected(data, normals, offsets), metric)
    keys, order = (hashes * multipliers).sum(dim=2).sort(dim=1)
    centre = compared.mean(dim=0)
    rows = compared - centre
    return LSH(metric, normals, offsets, multipliers, keys, order, rows, centre, rows.square().sum(dim=1))


def _projected(x: Tensor, normals: Tensor, offsets: Tensor) -> Tensor:
    """Return projections [tables, m, bits] of x [m, d]."""
    return torch.einsum("md,tbd->tmb", x.to(normals), normals) + offsets[:, None]


def _hashed(projected: Tensor, metric: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hashes int64, how far the nearest border is, and the step, 1 or -1, to the hash beyond it."""
    if metric == "cosine":
        hashes = (projected > 0).long()
        return hashes, projected.abs(), 1 - 2 * hashes
    hashes = projected.floor()
    within = projected - hashes
    return hashes.long(), torch.minimum(within, 1 - within), torch.where(within < 0.5, -1, 1)


def _spelled_out(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for ranges [m, p] of places, the row and the place of everything in them."""
    counts = (last - first).flatten()
    rows = torch.arange(len(first), device=first.device).repeat_interleave((last - first).sum(dim=1))
    begins = (first.flatten() - counts.cumsum(0) + counts).repeat_interleave(counts)
    return rows, begins + torch.arange(len(begins), device=first.device)


def _width(data: Tensor, generator: torch.Generator) -> float:
    drawn = torch.randperm(len(data), generator=generator)[:100].to(data.device)
    tenth = knn(data[drawn], data, min(11, len(data))).distances[:, -1].double().mean().item()
    return 4 * tenth or 1.0


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)
