"""A search finds the nearest in the lists that it looks into, and with all lists the nearest of all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.inverted import build_lists
from lib.cluster.neighbours import knn
from tests.cluster.test_neighbours import table
from tests.cluster.test_quantise import correlated


@given(n=st.integers(1, 60), lists=st.integers(1, 9), k=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_with_all_lists_the_search_is_exact(n, lists, k, seed):
    x, queries = table(n, 4, seed), table(5, 4, seed + 1)
    lists, k = min(lists, n), min(k, n)
    index = build_lists(x, lists, seed=seed)
    found, wanted = index.search(queries, k, n_probes=lists), knn(queries, x, k)
    torch.testing.assert_close(found.distances, wanted.distances)
    assert torch.equal(found.indices, wanted.indices)
    assert (found.compared == n).all()
    assert sorted(index.order.tolist()) == list(range(n))


@pytest.mark.parametrize("pieces", [None, 4])
def test_a_search_finds_the_nearest_of_the_lists_that_it_probes(pieces):
    x, queries = correlated(600), correlated(20, seed=5)
    index = build_lists(x, 12, n_subvectors=pieces)
    found = index.search(queries, 40, n_probes=3)
    probed = knn(queries, index.centres, 3).indices
    kept = index.rows if pieces is None else index.quantizer.decode(index.rows.T)
    for i, lists in enumerate(probed.tolist()):
        members = torch.cat([torch.arange(*index.starts[number : number + 2]) for number in lists])
        owner = torch.cat([torch.full((index.starts[j + 1] - index.starts[j],), j) for j in lists])
        apart = (queries[i] - index.centres[owner] - kept[members]).norm(dim=1)
        wanted = apart.sort()
        count = min(40, len(members))
        torch.testing.assert_close(found.distances[i, :count], wanted.values[:count])
        assert set(found.indices[i, :count].tolist()) <= set(index.order[members].tolist())
        assert (found.indices[i, count:] == -1).all()
        assert found.distances[i, count:].isinf().all()
        assert found.compared[i] == len(members)


def test_codes_are_searched_alike_by_lookup_and_by_products():
    x, queries = correlated(600), correlated(20, seed=5)
    for rotations in (0, 2):
        index = build_lists(x, 8, n_subvectors=4, rotations=rotations)
        apart = torch.cdist(queries, index.centres).square().topk(4, largest=False)
        lengths = (queries - index.origin).square().sum(dim=1, keepdim=True)
        ours = index._by_lookup(queries, apart.values - lengths, apart.indices, 9)
        theirs = index._by_products(queries, apart.indices, 9)
        torch.testing.assert_close(ours[0], theirs[0])


def test_few_probes_find_most_of_what_is_near():
    x = correlated(3000)
    index = build_lists(x, 50)
    wanted = knn(x[:200], x, 10).indices
    share = {}
    for probes in (1, 4, 50):
        found = index.search(x[:200], 10, n_probes=probes).indices
        share[probes] = (found[:, :, None] == wanted[:, None]).any(dim=1).double().mean().item()
    assert share[1] < share[4] < share[50] == 1
    assert share[4] > 0.9


def test_results_do_not_depend_on_how_the_work_is_split_and_follow_the_seed():
    x, queries = table(90, 4, 5), table(30, 4, 6)
    for pieces in (None, 2):
        index = (
            build_lists(x, 7, n_subvectors=pieces)
            if pieces is None
            else build_lists(correlated(300), 7, n_subvectors=pieces)
        )
        asked = queries if pieces is None else correlated(30, seed=6)
        whole, parts = index.search(asked, 4, n_probes=2), index.search(asked, 4, n_probes=2, memory_limit=40_000)
        torch.testing.assert_close(whole.distances, parts.distances)
        assert torch.equal(whole.compared, parts.compared)
        with pytest.raises(ValueError, match="memory limit of 10 bytes is too small"):
            index.search(asked, 4, n_probes=2, memory_limit=10)
    assert torch.equal(build_lists(x, 7, seed=3).centres, build_lists(x, 7, seed=3).centres)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float16, torch.float32])
def test_duplicates_and_other_numbers(dtype):
    x = torch.ones(7, 3, dtype=dtype)
    found = build_lists(x, 3).search(x[:2], 7, n_probes=3)
    assert not found.distances.any()
    assert [sorted(row) for row in found.indices.tolist()] == [list(range(7))] * 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: build_lists(x, 0), "n_lists must be at least 1, got 0"),
        (lambda x: build_lists(x, 21), "n_lists must be at most the 20 rows of the data, got 21"),
        (lambda x: build_lists(x, 2, n_subvectors=3), "n_subvectors must divide the 4 columns, got 3"),
        (lambda x: build_lists(x, 2).search(x, 1, n_probes=3), "n_probes must be at most the 2 lists, got 3"),
        (lambda x: build_lists(x, 2).search(x, 21, n_probes=1), "n_neighbors must be at most the 20 rows"),
        (lambda x: build_lists(x, 2).search(x[:, :3], 1, n_probes=1), r"one length, got queries \[20, 3\]"),
        (lambda x: build_lists(x * torch.inf, 2), "finite, got NaN or infinity"),
    ],
)
def test_what_does_not_go_together_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(table(20, 4))
