"""k-means ends where Lloyd's passes end, whatever is left out, and as scikit-learn's from the same starts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lib.cluster.kmeans import kmeans, nearest, plus_plus
from tests.cluster.test_neighbours import table


def blobs(n=300, k=4, d=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    kinds = torch.arange(n) % k
    return (centres[kinds] + torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype), kinds


@given(
    n=st.integers(1, 60), d=st.integers(1, 5), k=st.integers(1, 12), seed=st.integers(0, 999),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_bounds_leave_out_no_distance_that_matters(n, d, k, seed, dtype):
    x, k = table(n, d, seed, dtype), min(k, n)
    lloyd, elkan = (kmeans(x, k, algorithm=name, tol=0, seed=seed) for name in ("lloyd", "elkan"))
    assert torch.equal(lloyd.labels, elkan.labels)
    torch.testing.assert_close(lloyd.centres, elkan.centres)
    assert lloyd.iterations == elkan.iterations


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
@pytest.mark.parametrize("seed", range(3))
def test_from_the_same_starts_it_ends_as_scikit_learn(algorithm, seed):
    x = table(400, 5, seed)
    init = x[:7].clone()
    found = kmeans(x, 7, init=init, algorithm=algorithm, tol=0)
    wanted = KMeans(7, init=init.numpy(), n_init=1, tol=0, algorithm=algorithm).fit(x.numpy())
    assert found.labels.tolist() == wanted.labels_.tolist()
    assert found.inertia == pytest.approx(wanted.inertia_)
    torch.testing.assert_close(found.centres, torch.from_numpy(wanted.cluster_centers_))


def test_the_result_fits_together():
    x, _ = blobs()
    found = kmeans(x, 4)
    apart = torch.cdist(x, found.centres).square()
    assert torch.equal(found.labels, apart.argmin(1))
    assert found.inertia == pytest.approx(apart.min(1).values.sum().item())
    means = torch.stack([x[found.labels == label].mean(0) for label in range(4)])
    torch.testing.assert_close(found.centres, means)


@pytest.mark.parametrize("options", [{}, {"batch_size": 64}, {"init": "random", "seed": 1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_blobs_are_found(options, dtype):
    x, kinds = blobs(dtype=dtype)
    found = kmeans(x, 4, **options)
    assert adjusted_rand_score(kinds, found.labels) == 1
    assert found.centres.dtype == dtype


def test_the_result_depends_on_the_seed_and_not_on_how_the_work_is_split():
    x = table(200, 4)
    whole, parts = (kmeans(x, 9, memory_limit=limit, algorithm="lloyd") for limit in (2**20, 2000))
    assert torch.equal(whole.labels, parts.labels)
    assert whole.inertia == pytest.approx(parts.inertia)
    assert kmeans(x, 9, seed=1).inertia != whole.inertia
    batches = [kmeans(x, 9, batch_size=50, seed=seed).centres for seed in (0, 0, 1)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_a_shift_of_all_points_shifts_the_centres():
    x = table(150, 3)
    here, there = kmeans(x, 5), kmeans(x + 1e6, 5)
    assert torch.equal(here.labels, there.labels)
    torch.testing.assert_close(here.centres + 1e6, there.centres)


def test_the_order_of_the_points_does_not_matter_from_given_starts():
    x = table(150, 3)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    init = x[:5]
    torch.testing.assert_close(kmeans(x, 5, init=init).labels[order], kmeans(x[order], 5, init=init).labels)


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
def test_a_centre_without_points_takes_the_farthest_one(algorithm):
    x = torch.tensor([[0.0], [1.0], [10.0]])
    found = kmeans(x, 2, init=torch.tensor([[0.0], [100.0]]), algorithm=algorithm)
    assert found.labels.tolist() == [0, 0, 1]
    assert found.centres[:, 0].tolist() == [0.5, 10.0]


def test_duplicates_constant_columns_and_single_points_are_no_trouble():
    same = kmeans(torch.ones(6, 2), 3)
    assert (same.inertia, same.labels.unique().numel()) == (0, 1)
    assert same.centres.isfinite().all()
    x = torch.cat([table(30, 1), torch.ones(30, 1)], 1)
    assert kmeans(x, 3).centres[:, 1].tolist() == pytest.approx([1.0] * 3)
    assert kmeans(torch.tensor([[3, 4]]), 1).centres.tolist() == [[3.0, 4.0]]
    assert kmeans(torch.arange(9)[:, None], 9).inertia == 0


def test_starts_are_far_apart_more_often_than_at_random():
    x, kinds = blobs(k=6, n=240)
    hit = lambda rows: len({int(kind) for row in rows for kind in kinds[(x == row).all(1)]})  # noqa: E731
    drawn = [hit(plus_plus(x, 6, torch.Generator().manual_seed(seed))) for seed in range(20)]
    chance = [hit(x[torch.randperm(240, generator=torch.Generator().manual_seed(seed))[:6]]) for seed in range(20)]
    assert sum(drawn) > sum(chance) + 20


def test_of_equal_centres_the_first_is_the_nearest():
    labels = nearest(torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 2)
    assert labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_clusters": 0}, "n_clusters must be at least 1, got 0"),
        ({"n_clusters": 11}, "n_clusters must be at most the 10 points, got 11"),
        ({"init": "kmeans"}, r"unknown init 'kmeans'; did you mean 'k-means\+\+'"),
        ({"init": torch.zeros(3, 2)}, r"init must be finite centres \[2, 2\], got \[3, 2\]"),
        ({"algorithm": "elkann"}, "did you mean 'elkan'"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"tol": -1.0}, "tol must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"memory_limit": 10}, "memory limit of 10 bytes is too small"),
        ({"algorithm": "elkan", "memory_limit": 70}, "'elkan' is for the CPU and needs 80 bytes"),
    ],
)
def test_what_cannot_be_done_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        kmeans(table(10, 2), **({"n_clusters": 2} | options))
