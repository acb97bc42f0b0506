"""Codes stand for the nearest entries, and a search among them finds what looking at the decoded vectors finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.neighbours import knn
from lib.cluster.quantise import ProductQuantizer, train_quantizer
from tests.cluster.test_neighbours import table


def correlated(n=600, d=12, seed=0):
    """Vectors whose columns hang together, across the pieces."""
    return table(n, 3, seed) @ table(3, d, seed=7) + 0.1 * table(n, d, seed + 1)


@given(m=st.sampled_from([1, 2, 3, 6]), codes=st.integers(1, 20), seed=st.integers(0, 99), turned=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_code_is_the_nearest_entry_of_each_piece(m, codes, seed, turned):
    rotation = torch.linalg.qr(table(6, 6, seed))[0] if turned else None
    quantizer = ProductQuantizer(table(m * codes, 6 // m, seed).view(m, codes, -1), rotation)
    x = table(15, 6, seed + 1)
    found = quantizer.encode(x)
    pieces = (x if rotation is None else x @ rotation).view(15, m, -1)
    wanted = torch.stack([torch.cdist(pieces[:, i], quantizer.books[i]).argmin(1) for i in range(m)], 1)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), wanted)
    decoded = torch.cat([quantizer.books[i][wanted[:, i]] for i in range(m)], 1)
    torch.testing.assert_close(quantizer.decode(found), decoded if rotation is None else decoded @ rotation.T)


@pytest.mark.parametrize("rotations", [0, 2])
@pytest.mark.parametrize("limit", [2**20, 8000])
def test_a_search_finds_the_nearest_decoded_vectors(rotations, limit):
    x = correlated()
    quantizer = train_quantizer(x[:500], 4, n_codes=16, rotations=rotations)
    codes = quantizer.encode(x[:500])
    found = quantizer.search(x[500:520], codes, 7, memory_limit=limit)
    wanted = knn(x[500:520], quantizer.decode(codes), 7)
    torch.testing.assert_close(found.distances, wanted.distances)
    assert (found.distances.diff(dim=1) >= 0).all()
    again = (quantizer.decode(codes)[found.indices] - x[500:520, None]).norm(dim=2)
    torch.testing.assert_close(again, found.distances)


def test_more_codes_and_a_rotation_lose_less():
    x = correlated()
    lost = {}
    for codes, rotations in ((4, 0), (32, 0), (32, 6)):
        quantizer = train_quantizer(x, 4, n_codes=codes, rotations=rotations)
        lost[codes, rotations] = (quantizer.decode(quantizer.encode(x)) - x).square().mean().item()
        if rotations:
            eye = quantizer.rotation.T @ quantizer.rotation
            torch.testing.assert_close(eye, torch.eye(12, dtype=torch.float64))
    assert lost[32, 6] < 0.9 * lost[32, 0] < 0.9 * lost[4, 0]


def test_as_many_codes_as_vectors_lose_nothing():
    x = table(40, 6)
    quantizer = train_quantizer(x, 3, n_codes=40)
    torch.testing.assert_close(quantizer.decode(quantizer.encode(x)), x)


def test_the_code_books_depend_on_the_seed_alone():
    x = correlated()
    books = [train_quantizer(x, 4, n_codes=8, n_samples=200, seed=seed).books for seed in (0, 0, 1)]
    assert torch.equal(books[0], books[1])
    assert not torch.equal(books[0], books[2])


def test_the_dtype_of_the_vectors_stays():
    quantizer = train_quantizer(correlated().float(), 4, n_codes=8)
    assert quantizer.decode(quantizer.encode(correlated().float())).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_subvectors": 5}, "n_subvectors must divide the 12 columns, got 5"),
        ({"n_subvectors": 0}, "n_subvectors must be at least 1"),
        ({"n_subvectors": 4, "n_codes": 257}, "n_codes must be at most the 256 numbers of a byte, got 257"),
        ({"n_subvectors": 4, "n_codes": 50}, "n_codes must be at most the 20 vectors, got 50"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        train_quantizer(correlated(20), **options)


def test_what_does_not_fit_the_code_books_is_refused():
    quantizer = train_quantizer(correlated(50), 4, n_codes=8)
    codes = quantizer.encode(correlated(50))
    with pytest.raises(ValueError, match=r"vectors must be \[n, 12\], got \[3, 5\]"):
        quantizer.encode(table(3, 5))
    with pytest.raises(ValueError, match="at most the 50 codes, got 51"):
        quantizer.search(correlated(3), codes, 51)
    with pytest.raises(ValueError, match="memory limit of 20 bytes is too small"):
        quantizer.search(correlated(3), codes, 5, memory_limit=20)
    with pytest.raises(ValueError, match=r"codes must be uint8 \[n, 4\], got torch.uint8 \[50, 3\]"):
        quantizer.search(correlated(3), codes[:, :3], 5)
    with pytest.raises(ValueError, match=r"codes must be uint8 \[n, 4\], got torch.int64 \[50, 4\]"):
        quantizer.search(correlated(3), codes.long(), 5)
    with pytest.raises(ValueError, match="codes must be below 8, the entries of a code book, got 8"):
        quantizer.search(correlated(3), codes.fill_(8), 5)


@pytest.mark.parametrize("limit", [2**20, 8000])
def test_products_and_lookups_find_the_same(limit):
    quantizer = train_quantizer(correlated(), 4, n_codes=16)
    codes, queries = quantizer.encode(correlated()), correlated(20, seed=3)
    ours, theirs = quantizer.search(queries, codes, 7), quantizer._by_products(queries, codes, 7, limit)
    torch.testing.assert_close(ours.distances, theirs.distances)
