"""The nearest neighbours are scikit-learn's, whatever fits into memory at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from lib.cluster.neighbours import knn


def table(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(n=st.integers(1, 40), m=st.integers(1, 9), d=st.integers(1, 6), k=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_they_are_those_of_scikit_learn(n, m, d, k, seed):
    data, queries, k = table(n, d, seed), table(m, d, seed + 1), min(k, n)
    found = knn(queries, data, k)
    distances, indices = NearestNeighbors(n_neighbors=k).fit(data.numpy()).kneighbors(queries.numpy())
    torch.testing.assert_close(found.distances, torch.from_numpy(distances))
    assert torch.equal(found.indices, torch.from_numpy(indices))


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_far_from_the_origin_differences_keep_their_digits(shift):
    data = table(200, 5, dtype=torch.float32) + shift
    found = knn(data[:20], data, 3)
    exact = torch.cdist(data[:20].double(), data.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(found.indices[:, 0], torch.arange(20))
    assert not found.distances[:, 0].any()
    torch.testing.assert_close(found.distances.double(), exact.sort(dim=1).values[:, :3], rtol=1e-5, atol=1e-6)


def test_of_equal_ones_the_first_comes_first():
    data = torch.zeros(6, 2)
    found = knn(torch.ones(2, 2), data, 4)
    assert found.indices.tolist() == [[0, 1, 2, 3]] * 2
    torch.testing.assert_close(found.distances, torch.full((2, 4), 2**0.5))


def test_a_small_memory_gives_the_same_and_one_too_small_is_refused():
    data, queries = table(50, 4), table(30, 4, seed=1)
    whole = knn(queries, data, 5)
    parts = knn(queries, data, 5, memory_limit=3000)
    assert torch.equal(whole.indices, parts.indices)
    torch.testing.assert_close(whole.distances, parts.distances)
    with pytest.raises(ValueError, match=r"memory limit of 100 bytes is too small: one row needs 1632"):
        knn(queries, data, 5, memory_limit=100)


@pytest.mark.parametrize(
    ("queries", "data", "k", "said"),
    [
        (table(2, 3), table(4, 2), 1, r"one length, got queries \[2, 3\] and data \[4, 2\]"),
        (table(2, 3), table(4, 3), 5, r"n_neighbors must be at most the 4 rows of the data, got 5"),
        (table(2, 3), table(4, 3), 0, r"n_neighbors must be at least 1, got 0"),
        (table(2, 3), table(4, 3).index_fill(0, torch.tensor([1]), torch.nan), 1, r"finite, got NaN.* in 1 of 4 rows"),
        (table(2, 3)[:0], table(4, 3), 1, "at least one row"),
    ],
)
def test_what_does_not_go_together_is_refused(queries, data, k, said):
    with pytest.raises(ValueError, match=said):
        knn(queries, data, k)


def test_sparse_tables_are_refused():
    with pytest.raises(TypeError, match=r"x must be a dense tensor, got torch\.sparse_coo"):
        knn(table(2, 3).to_sparse(), table(4, 3), 1)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float16, torch.float32])
def test_other_numbers_are_made_wide_enough(dtype):
    data = table(20, 3).mul(10).abs().to(dtype)
    found = knn(data[:4], data, 2)
    assert found.distances.dtype == (torch.float32 if dtype.is_floating_point else torch.float64)
    torch.testing.assert_close(found.distances.double(), knn(data[:4].double(), data.double(), 2).distances)
