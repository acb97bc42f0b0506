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
from lib.cluster.kmeans import kmeans, nearest
from lib.cluster.neighbours import Neighbours, knn
from lib.cluster.quantise import ProductQuantizer, train_quantizer

MIB = 2**20
SAMPLES = 64  # rows for each list that its centre is learnt from, as there are many lists


@dataclass(frozen=True)
class InvertedLists:
    """Rows list by list, those of list i from `starts[i]` to `starts[i + 1]`; `build_lists` makes one.

    `centres` [lists, d]; `order` [n] are the rows' numbers in the data; `rows` are the rows themselves [n, d] or, with
    a `quantizer`, the codes [n, m] of what they differ from their centre.
    """

    centres: Tensor
    starts: list[int]
    order: Tensor
    rows: Tensor
    quantizer: ProductQuantizer | None = None

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
        longest = max(stop - start for start, stop in zip(self.starts, self.starts[1:], strict=False))
        per_query = 4 * (longest + (k + 4) * n_probes) * queries.element_size()
        parts = [self._nearest(part, k, n_probes) for part in queries.split(check.rows_within(memory_limit, per_query))]
        distances, indices, compared = zip(*parts, strict=True)
        return Neighbours(torch.cat(distances), torch.cat(indices), torch.cat(compared))

    def _nearest(self, queries: Tensor, k: int, n_probes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Look into each list once, for all queries that probe it: a product of matrices."""
        probed = knn(queries, self.centres, n_probes).indices  # [m, probes]
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
        sizes = torch.tensor(self.starts, device=queries.device).diff()
        return best.values.clamp(min=0).sqrt(), indices.flatten(1).gather(1, best.indices), sizes[probed].sum(dim=1)

    def _decoded(self, start: int, stop: int) -> Tensor:
        """Return what rows of a list differ from its centre."""
        rows = self.rows[start:stop]
        return rows if self.quantizer is None else self.quantizer.decode(rows)


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
    rows = data[order] - centres[labels[order]]
    if n_subvectors is None:
        return InvertedLists(centres, starts, order, rows)
    quantizer = train_quantizer(rows, n_subvectors, rotations=rotations, seed=seed)
    return InvertedLists(centres, starts, order, quantizer.encode(rows), quantizer)
