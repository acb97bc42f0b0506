"""Rows that share a bucket are found, those that do not are not, and near ones share one as often as theory says."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.lsh import build_lsh
from lib.cluster.neighbours import knn
from tests.cluster.test_neighbours import table


def signs(index, x):
    """The hashes of rows under hyperplanes, one by one: a tuple a row and table."""
    return [[tuple((normal @ row > 0).tolist()) for row in x] for normal in index.normals]


def floors(index, x):
    pairs = zip(index.normals, index.offsets, strict=True)
    return [[tuple((normal @ row + offset).floor().tolist()) for row in x] for normal, offset in pairs]


@given(
    n=st.integers(1, 30), d=st.integers(1, 5), bits=st.integers(1, 6), tables=st.integers(1, 4), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_candidates_are_the_rows_with_the_same_hashes_in_some_table(n, d, bits, tables, seed):
    x, queries = table(n, d, seed), table(4, d, seed + 1)
    for metric, hashes in (("cosine", signs), ("euclidean", floors)):
        options = {} if metric == "cosine" else {"width": 1.5}
        index = build_lsh(x, metric, n_tables=tables, n_bits=bits, seed=seed, **options)
        found = index.candidates(queries)
        ours, theirs = hashes(index, x), hashes(index, queries)
        wanted = [[any(ours[t][j] == theirs[t][i] for t in range(tables)) for j in range(n)] for i in range(4)]
        assert found.tolist() == wanted


@given(bits=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_all_buckets_of_hyperplanes_together_hold_everything(bits, seed):
    x = table(25, 4, seed)
    index = build_lsh(x, "cosine", n_tables=1, n_bits=bits, seed=seed)
    found = [index.candidates(x[:3], n_probes) for n_probes in range(1, 2**bits + 1)]
    assert found[-1].all()
    for few, more in pairwise(found):
        assert not (few & ~more).any()


def test_probes_go_over_the_nearest_borders_first():
    x = torch.tensor([[0.9], [1.1], [2.1], [-0.1]]).double()
    index = build_lsh(x, n_tables=1, n_bits=1, width=1.0)
    places = (x[:, 0] * index.normals[0, 0] + index.offsets[0, 0]).tolist()
    own = math.floor(places[0])
    beyond = own - 1 if places[0] - own < 0.5 else own + 1
    wanted = [math.floor(place) in (own, beyond) for place in places]
    assert index.candidates(x[:1], n_probes=2).tolist() == [wanted]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_where_everything_is_a_candidate_the_search_is_exact(metric):
    x, queries = table(60, 4, 1), table(9, 4, 2)
    options = {"width": 1e6} if metric == "euclidean" else {}
    index = build_lsh(x, metric, n_tables=6, n_bits=3, **options)
    found = index.search(queries, 5, n_probes=8)
    assert (found.compared == 60).all()
    if metric == "euclidean":
        wanted = knn(queries, x, 5)
        torch.testing.assert_close(found.distances, wanted.distances)
    else:
        cosines = torch.nn.functional.cosine_similarity(queries[:, None], x, dim=2)
        wanted = (1 - cosines).sort(dim=1)
        torch.testing.assert_close(found.distances, wanted.values[:, :5])
    assert torch.equal(found.indices, wanted.indices[:, :5])


def test_a_search_finds_the_nearest_candidates_and_says_where_there_are_none():
    x, queries = table(80, 3, 3), table(12, 3, 4)
    index = build_lsh(x, n_tables=2, n_bits=4, width=1.0)
    found, candidates = index.search(queries, 6), index.candidates(queries)
    assert torch.equal(found.compared, candidates.sum(dim=1))
    for i, among in enumerate(candidates):
        which = among.nonzero()[:, 0]
        kept = min(6, len(which))
        assert (found.indices[i, kept:] == -1).all()
        assert found.distances[i, kept:].isinf().all()
        if kept:
            wanted = knn(queries[i : i + 1], x[which], kept)
            assert torch.equal(found.indices[i, :kept], which[wanted.indices[0]])
            torch.testing.assert_close(found.distances[i, :kept], wanted.distances[0])
    assert (found.indices == -1).any()


def test_hyperplanes_part_two_vectors_as_often_as_their_angle_says():
    for degrees in (20, 60, 120):
        angle = math.radians(degrees)
        x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
        index = build_lsh(x, "cosine", n_tables=2000, n_bits=1)
        ours, theirs = ((index.normals[:, 0] @ row) > 0 for row in x)
        assert (ours == theirs).float().mean().item() == pytest.approx(1 - degrees / 180, abs=0.04)


def test_results_do_not_depend_on_how_the_work_is_split():
    x, queries = table(50, 4, 5), table(30, 4, 6)
    index = build_lsh(x, n_tables=3, n_bits=3, width=2.0)
    whole, parts = index.search(queries, 4), index.search(queries, 4, memory_limit=60_000)
    assert torch.equal(whole.indices, parts.indices)
    assert torch.equal(whole.compared, parts.compared)
    with pytest.raises(ValueError, match="memory limit of 100 bytes is too small"):
        index.search(queries, 4, memory_limit=100)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float16, torch.float32, torch.float64])
def test_duplicates_one_row_and_other_numbers(dtype):
    x = torch.ones(7, 3, dtype=dtype)
    index = build_lsh(x)
    assert index.search(x[:1], 7).indices.tolist() == [list(range(7))]
    assert build_lsh(x[:1]).search(x, 1).indices.tolist() == [[0]] * 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "manhattan"}, "metric .*'manhattan'"),
        ({"n_tables": 0}, "n_tables must be at least 1, got 0"),
        ({"n_bits": 0}, "n_bits must be at least 1, got 0"),
        ({"width": 0.0}, "width must be positive and finite, got 0"),
        ({"metric": "cosine", "width": 1.0}, "width is for metric 'euclidean', got 1.0 with 'cosine'"),
    ],
)
def test_what_cannot_be_hashed_so_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        build_lsh(table(5, 3), **options)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="no rows of zeros under metric 'cosine'"):
        build_lsh(torch.eye(3)[:, :2], "cosine")
    with pytest.raises(ValueError, match="queries must have no rows of zeros under metric 'cosine'"):
        build_lsh(table(5, 3), "cosine").search(torch.zeros(1, 3), 1)
    index = build_lsh(table(5, 3), n_bits=2)
    with pytest.raises(ValueError, match="n_probes must be at most the 4 buckets that may be probed, got 5"):
        index.candidates(table(2, 3), 5)
    with pytest.raises(ValueError, match="n_neighbors must be at most the 5 rows of the data, got 6"):
        index.search(table(2, 3), 6)
    with pytest.raises(ValueError, match=r"rows need one length, got queries \[2, 4\] and data \[1, 3\]"):
        index.search(table(2, 4), 1)
    with pytest.raises(ValueError, match="finite, got NaN"):
        index.search(table(2, 3) * torch.nan, 1)
