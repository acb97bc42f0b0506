"""Product quantisation: a vector cut into pieces, each kept as the number of the nearest entry of a code book.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), 2011; the rotation is
that of Ge et al., "Optimized product quantization", CVPR 2013, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lib.checks import check_count
from lib.cluster import check
from lib.cluster.backends import lookup
from lib.cluster.kmeans import KMeans, kmeans, nearest
from lib.cluster.neighbours import Neighbours

MIB = 2**20
CODES = 256  # of a code book: a byte each


@dataclass(frozen=True)
class ProductQuantizer:
    """Code books [m, codes, d / m], one for each of m pieces of a vector, and a rotation [d, d] that comes first.

    A vector takes m bytes. `train_quantizer` makes one.
    """

    books: Tensor
    rotation: Tensor | None = None

    @property
    def width(self) -> int:
        """The length d of a vector."""
        return self.books.shape[0] * self.books.shape[2]

    def encode(self, x: Tensor, *, memory_limit: int = 512 * MIB) -> Tensor:
        """Return the codes of vectors [n, d], the nearest entry for each piece: uint8 [n, m]."""
        data = self.rotated(x)
        rows = check.rows_within(memory_limit, 2 * self.books.shape[1] * data.element_size())
        pieces = data.view(len(data), len(self.books), -1).unbind(1)
        labels = [nearest(piece, book, rows) for piece, book in zip(pieces, self.books, strict=True)]
        return torch.stack(labels, dim=1).to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors [n, d] that codes [n, m] stand for."""
        pieces = [book[column.long()] for book, column in zip(self.books, codes.T, strict=True)]
        joined = torch.cat(pieces, dim=1)
        return joined if self.rotation is None else joined @ self.rotation.T

    def search(self, queries: Tensor, codes: Tensor, n_neighbors: int, *, memory_limit: int = 512 * MIB) -> Neighbours:
        """Return the nearest of the vectors that codes [n, m] stand for, to queries [q, d] that are not quantised.

        The distances are the "asymmetric" ones of the paper (section 3.2): those from the decoded vectors. On the CPU
        they are sums of entries of a table, a lookup for each byte; elsewhere vectors are decoded, and many queries at
        a time are a product of matrices. Raises ValueError for codes that are not this quantiser's.
        """
        self._check(codes)
        k = check.at_most("n_neighbors", check_count("n_neighbors", n_neighbors), len(codes), "codes")
        queries = self.rotated(queries)
        if codes.device.type != "cpu":
            return self._by_products(queries, codes, k, memory_limit)
        rows = check.rows_within(memory_limit, 2 * self.books[..., 0].numel() * queries.element_size())
        columns, none = codes.T.contiguous(), queries.new_zeros(len(codes))
        parts = []
        for part in queries.split(rows):
            begin = torch.zeros(len(part), 1, dtype=torch.int64)
            lengths = part.view(len(part), len(self.books), -1).square().sum(dim=2, keepdim=True)
            tables = lengths + self.books.square().sum(dim=2) - 2 * self.products(part)
            parts.append(lookup.search(tables, columns, none, begin, begin + len(codes), none[: len(part), None], k))
        squares, indices = (torch.cat(part) for part in zip(*parts, strict=True))
        return Neighbours(squares.clamp(min=0).sqrt(), indices)

    def products(self, queries: Tensor) -> Tensor:
        """Return the products of queries [q, d], rotated already, with all entries: [q, m, codes]."""
        pieces = queries.view(len(queries), len(self.books), -1)
        return torch.einsum("qmd,mcd->qmc", pieces, self.books)

    def _by_products(self, queries: Tensor, codes: Tensor, k: int, memory_limit: int) -> Neighbours:
        """Search as any device can, decoding as many vectors at a time as fit."""
        per_code = self.width * queries.element_size()
        rows = check.rows_within(memory_limit // 2, 2 * per_code + 8 * len(queries))
        best = Neighbours(queries.new_empty(len(queries), 0), codes.new_empty(len(queries), 0, dtype=torch.int64))
        plain = ProductQuantizer(self.books)
        for first in range(0, len(codes), rows):
            base = plain.decode(codes[first : first + rows])
            squares = torch.addmm(base.square().sum(dim=1), queries, base.T, alpha=-2)
            best = _merged(best, squares, first, k)
        squares = best.distances + queries.square().sum(dim=1, keepdim=True)
        return Neighbours(squares.clamp(min=0).sqrt(), best.indices)

    def _check(self, codes: Tensor) -> None:
        m, n_codes, _ = self.books.shape
        if codes.ndim != 2 or codes.shape[1] != m or codes.dtype != torch.uint8 or not len(codes):
            raise ValueError(f"codes must be uint8 [n, {m}], got {codes.dtype} {list(codes.shape)}")
        if int(codes.max()) >= n_codes:
            raise ValueError(f"codes must be below {n_codes}, the entries of a code book, got {int(codes.max())}")

    def rotated(self, x: Tensor) -> Tensor:
        """Return vectors [n, d] as the code books see them; raises ValueError for another width."""
        data = check.table(x).to(self.books)
        if data.shape[1] != self.width:
            raise ValueError(f"vectors must be [n, {self.width}], got {list(data.shape)}")
        return data if self.rotation is None else data @ self.rotation


def train_quantizer(
    x: Tensor,
    n_subvectors: int,
    *,
    n_codes: int = CODES,
    rotations: int = 0,
    max_iter: int = 25,
    n_samples: int | None = 65_536,
    seed: int = 0,
) -> ProductQuantizer:
    """Make the code books for vectors x [n, d], by k-means for each of `n_subvectors` pieces.

    With `rotations` the vectors are turned first: so many times, code books and then the rotation that brings the
    vectors nearest to what their codes stand for. At most `n_samples` vectors, drawn at random, are learnt from. Raises
    ValueError where the pieces do not divide d, and for more codes than a byte can number or than there are vectors.
    """
    data = check.table(x)
    m = check_count("n_subvectors", n_subvectors)
    if data.shape[1] % m:
        raise ValueError(f"n_subvectors must divide the {data.shape[1]} columns, got {m}")
    check.at_most("n_codes", check_count("n_codes", n_codes), CODES, "numbers of a byte")
    check.at_most("n_codes", n_codes, len(data), "vectors")
    generator = torch.Generator().manual_seed(seed)
    if n_samples is not None and check_count("n_samples", n_samples) < len(data):
        data = data[torch.randperm(len(data), generator=generator)[:n_samples].to(data.device)]
    learn = partial(kmeans, n_clusters=n_codes, init="random", max_iter=max_iter, seed=seed)
    rotation = None
    for _ in range(rotations):
        turned = data if rotation is None else data @ rotation
        found = ProductQuantizer(_books(turned, m, partial(learn, max_iter=4)))
        left, _, right = torch.linalg.svd(data.T @ found.decode(found.encode(turned)))
        rotation = left @ right
    return ProductQuantizer(_books(data if rotation is None else data @ rotation, m, learn), rotation)


def _books(data: Tensor, m: int, learn: Callable[..., KMeans]) -> Tensor:
    """Return a code book for each of m pieces of vectors [n, d]: [m, codes, d / m]."""
    return torch.stack([learn(piece).centres for piece in data.view(len(data), m, -1).unbind(1)])


def _merged(best: Neighbours, squares: Tensor, first: int, k: int) -> Neighbours:
    """Return the k nearest of those found so far and of columns `first` on."""
    found = squares.topk(min(k, squares.shape[1]), dim=1, largest=False)
    values = torch.cat([best.distances, found.values], dim=1)
    indices = torch.cat([best.indices, found.indices + first], dim=1)
    order = values.sort(dim=1, stable=True).indices[:, :k]
    return Neighbours(values.gather(1, order), indices.gather(1, order))
