"""Inverted lists: rows are kept by their nearest centre, and a search looks into a few lists only.

With product quantisation a list keeps codes of what is left of its rows once the centre is taken away: the IVF-PQ of
Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), 2011, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.checks import check_count
from lib.cluster import check
from lib.cluster.backends import lookup
from lib.cluster.kmeans import kmeans, nearest
from lib.cluster.neighbours import Neighbours
from lib.cluster.quantise import ProductQuantizer, train_quantizer

MIB = 2**20
SAMPLES = 64  # rows for each list that its centre is learnt from, as there are many lists


@dataclass(frozen=True)
class InvertedLists:
    """Rows list by list, those of list i from `starts[i]` to `starts[i + 1]`; `build_lists` makes one.

    `centres` [lists, d]; `order` [n] are the rows' numbers in the data; `rows` are what they differ from their centre
    [n, d] or, with a `quantizer`, the codes of that, piece by piece [m, n]. Of a decoded row r under its centre c,
    seen from `origin` [d], `more` [n] is r.r + 2 r.c, which no query changes.
    """

    centres: Tensor
    origin: Tensor
    starts: list[int]
    order: Tensor
    rows: Tensor
    quantizer: ProductQuantizer | None = None
    more: Tensor | None = None

    def search(
        self, queries: Tensor, n_neighbors: int, *, n_probes: int = 8, memory_limit: int = 512 * MIB
    ) -> Neighbours:
        """Return the nearest rows of the `n_probes` lists whose centres are nearest to each of queries [m, d].

        Where these have fewer rows, the rest have index -1 and an infinite distance. Raises ValueError for more probes
        than lists, and for a memory limit too small for one query.
        """
        queries = check.pair(queries, self.centres)[0].to(self.centres.dtype)
        k = check.at_most("n_neighbors", check_count("n_neighbors", n_neighbors), len(self.order), "rows of the data")
        check.at_most("n_probes", check_count("n_probes", n_probes), len(self.centres), "lists")
        quick = self.quantizer is not None and queries.device.type == "cpu"
        sizes = torch.tensor(self.starts, device=queries.device).diff()
        entries = self.quantizer.books[..., 0].numel() if quick else int(sizes.max())
        per_query = 4 * (entries + (k + 4) * n_probes) * queries.element_size()
        parts = []
        for part in queries.split(check.rows_within(memory_limit, per_query)):
            lengths = self.centres.sub(self.origin).square().sum(dim=1)
            apart = torch.addmm(lengths, part - self.origin, (self.centres - self.origin).T, alpha=-2)
            probed = apart.topk(n_probes, dim=1, largest=False)
            found = self._by_lookup(part, *probed, k) if quick else self._by_products(part, probed.indices, k)
            parts.append((*found, sizes[probed.indices].sum(dim=1)))
        squares, indices, compared = (torch.cat(part) for part in zip(*parts, strict=True))
        return Neighbours(squares.clamp(min=0).sqrt(), indices, compared)

    def _by_lookup(self, queries: Tensor, apart: Tensor, probed: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Add up what a query's table says of each code: |q - c - r|^2 = |q - c|^2 + (r.r + 2 r.c) - 2 q.r."""
        queries, starts = queries - self.origin, torch.tensor(self.starts)
        tables = -2 * self.quantizer.products(self.quantizer.rotated(queries))
        apart = apart + queries.square().sum(dim=1, keepdim=True)
        squares, places = lookup.search(tables, self.rows, self.more, starts[probed], starts[1:][probed], apart, k)
        return squares, torch.where(places < 0, -1, self.order[places.clamp(min=0)])

    def _by_products(self, queries: Tensor, probed: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Look into each list once, for all queries that probe it: a product of matrices."""
        n_probes = probed.shape[1]
        by_list = probed.flatten().sort(stable=True)
        visitors = (by_list.indices // n_probes).split(probed.flatten().bincount(minlength=len(self.centres)).tolist())
        slots = (by_list.indices % n_probes).split([len(part) for part in visitors])
        squares = queries.new_full((len(queries), n_probes, k), torch.inf)
        indices = torch.full(squares.shape, -1, device=queries.device)
        for number, (who, slot) in enumerate(zip(visitors, slots, strict=True)):
            start, stop = self.starts[number : number + 2]
            if len(who) and stop > start:
                centre, rows = self.centres[number], self._decoded(start, stop)
                asked = queries[who] - centre
                apart = torch.addmm(rows.square().sum(dim=1), asked, rows.T, alpha=-2)
                found = apart.topk(min(k, stop - start), dim=1, largest=False)
                kept = found.values.shape[1]
                squares[who, slot, :kept] = found.values + asked.square().sum(dim=1, keepdim=True)
                indices[who, slot, :kept] = self.order[start:stop][found.indices]
        best = squares.flatten(1).topk(k, dim=1, largest=False)
        return best.values, indices.flatten(1).gather(1, best.indices)

    def _decoded(self, start: int, stop: int) -> Tensor:
        """Return what rows of a list differ from its centre."""
        if self.quantizer is None:
            return self.rows[start:stop]
        return self.quantizer.decode(self.rows[:, start:stop].T)


def build_lists(
    x: Tensor, n_lists: int, *, n_subvectors: int | None = None, rotations: int = 0, max_iter: int = 10, seed: int = 0
) -> InvertedLists:
    """Divide the rows of x [n, d] among `n_lists` lists, whose centres k-means finds.

    With `n_subvectors` a row is kept as so many bytes, by product quantisation of what it differs from its centre (for
    `rotations` see `train_quantizer`). Raises ValueError for more lists than rows, and as `train_quantizer` does.
    """
    data = check.table(x)
    lists = check.at_most("n_lists", check_count("n_lists", n_lists), len(data), "rows of the data")
    generator = torch.Generator().manual_seed(seed)
    sample = data[torch.randperm(len(data), generator=generator)[: SAMPLES * lists].to(data.device)]
    centres = kmeans(sample, lists, init="random", max_iter=max_iter, seed=seed).centres.to(data)
    labels = nearest(data, centres, max(1, 2**24 // lists))
    order = labels.argsort(stable=True)
    starts = [0, *labels.bincount(minlength=lists).cumsum(0).tolist()]
    rows, origin = data[order] - centres[labels[order]], centres.mean(dim=0)
    if n_subvectors is None:
        return InvertedLists(centres, origin, starts, order, rows)
    quantizer = train_quantizer(rows, n_subvectors, rotations=rotations, seed=seed)
    codes = quantizer.encode(rows)
    decoded = quantizer.decode(codes)
    more = (decoded * (decoded + 2 * (centres - origin)[labels[order]])).sum(dim=1)
    return InvertedLists(centres, origin, starts, order, codes.T.contiguous(), quantizer, more)
