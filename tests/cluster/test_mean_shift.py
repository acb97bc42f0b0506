"""Mean shift against scikit-learn, against a plain loop, and against itself: in another order, place, batch, way."""

import inspect
import tracemalloc
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from sklearn.metrics import adjusted_rand_score

from lib.cluster.backends import full, grid
from lib.cluster.inverted import build_lists
from lib.cluster.kernels import KERNELS
from lib.cluster.lsh import build_lsh
from lib.cluster.mean_shift import _once_each, mean_shift
from lib.cluster.neighbours import Neighbours, knn
from lib.cluster.quantise import train_quantizer
from tests.cluster.blobs import blobs, plain, same_partition, sorted_rows

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8)
WAYS = {  # (kernel, algorithm asked for): what it is called when it was used
    ("gaussian", "full"): "full",
    ("gaussian", "nearest"): "grid",
    ("flat", "full"): "full",
    ("flat", "nearest"): "cells",
    ("triangular", "full"): "full",
    ("triangular", "nearest"): "cells",
}

LINE = torch.linspace(0, 1, 3000, dtype=torch.float64)[:, None]
HILL = torch.special.ndtri((torch.arange(3000, dtype=torch.float64) + 0.5) / 3000)[:, None]


def close(a, b, atol):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("algorithm", ["auto", "full"])
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 4),
    k=st.integers(1, 4),
    bandwidth=st.floats(0.3, 4.0).map(lambda width: width + 0.0123456789),
    seed=st.integers(0, 2**16),
    twice=st.booleans(),
    constant=st.booleans(),
)
def test_labels_and_centres_are_scikit_learns(algorithm, n, d, k, bandwidth, seed, twice, constant):
    x = blobs(n, d, k, seed).mul(64).round().div(64)  # sums are exact, so no tie is broken by a rounding
    x = x.repeat(2, 1) if twice else x
    x[:, 0] = 1.5 if constant else x[:, 0]
    theirs = cluster.MeanShift(bandwidth=bandwidth).fit(x.numpy())
    ours = mean_shift(x, bandwidth, "flat", algorithm=algorithm)
    centres = torch.from_numpy(theirs.cluster_centers_)
    close(sorted_rows(ours.centres), sorted_rows(centres), 1e-9)
    distances = torch.cdist(x, centres).sort(dim=1).values
    clear = torch.ones(len(x), dtype=torch.bool) if len(centres) == 1 else distances[:, 1] - distances[:, 0] > 1e-9
    assert same_partition(ours.labels[clear], torch.from_numpy(theirs.labels_)[clear])


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize(("kernel", "algorithm"), WAYS)
@settings(deadline=None, max_examples=6)
@given(n=st.integers(1, 40), d=st.integers(1, 3), seed=st.integers(0, 2**16), max_iter=st.integers(1, 12))
def test_every_step_is_that_of_a_plain_loop(kernel, algorithm, blurring, n, d, seed, max_iter):
    x = blobs(n, d, seed=seed)
    found = mean_shift(x, 0.8, kernel, blurring=blurring, algorithm=algorithm, max_iter=max_iter, tol=1e-9, path=True)
    expected = plain(x, 0.8, kernel, blurring, tol=1e-9, max_iter=max_iter)
    near = 1e-3 if found.algorithm == "grid" else 1e-9
    for ours, theirs in zip(found.path, expected, strict=False):
        close(ours, theirs, near)
    if found.algorithm == "grid":  # to its precision the points may rest some tiny steps sooner or later
        close(found.path[-1], expected[-1], near)
    else:
        assert len(found.path) == len(expected)
    assert found.algorithm == WAYS[kernel, algorithm]


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("tol", [1e-6, 1e-3, 0.1])
def test_points_rest_when_those_of_a_plain_loop_do(kernel, blurring, tol):
    x = blobs(50, 4, spread=0.5, seed=3)
    found = mean_shift(x, 1.2, kernel, blurring=blurring, tol=tol)
    expected = plain(x, 1.2, kernel, blurring, tol=tol)
    assert found.iterations == len(expected) - 1
    close(found.ends, expected[-1], 1e-9)


def test_a_point_at_rest_is_left_alone():
    path = torch.stack(mean_shift(blobs(50, 4), 1.0, tol=0.05, path=True).path)
    rests = (path.diff(dim=0).norm(dim=2) <= 0.05).int()
    still = (path.diff(dim=0) == 0).all(dim=2)
    assert torch.equal(still[1:], rests[:-1].cummax(dim=0).values.bool())
    assert 0 < still.sum() < still.numel()


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("kernel", ["flat", "triangular"])
@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 80), d=st.integers(1, 3), bandwidth=st.floats(0.1, 4.0), seed=st.integers(0, 2**16))
def test_nearest_is_full_where_the_support_is_bounded(kernel, blurring, n, d, bandwidth, seed):
    x = blobs(n, d, seed=seed)
    ours, theirs = (mean_shift(x, bandwidth, kernel, blurring=blurring, algorithm=way) for way in ("nearest", "full"))
    assert (ours.algorithm, theirs.algorithm) == ("cells", "full")
    close(ours.ends, theirs.ends, 1e-9)
    kept = 1e-3 if blurring else 1e-9 if kernel == "flat" else 1e-5  # any of equals, at rest within `tol`
    close(sorted_rows(ours.centres), sorted_rows(theirs.centres), kept * bandwidth)
    assert same_partition(ours.labels, theirs.labels)


@pytest.mark.parametrize(("d", "side"), [(1, 1e7), (2, 2000.0), (3, 100.0)])
@pytest.mark.parametrize("blurring", [False, True])
def test_a_gaussian_of_too_large_a_grid_takes_the_cells(d, side, blurring):
    x = blobs(150, d, spread=0.5, box=10.0)
    x[0], x[-1] = -side / 2, side / 2
    ours, theirs = (mean_shift(x, 1.0, algorithm=way, blurring=blurring, tol=1e-6) for way in ("nearest", "full"))
    assert ours.algorithm == "cells"
    close(ours.ends, theirs.ends, 1e-4)
    close(sorted_rows(ours.centres), sorted_rows(theirs.centres), 1e-4)
    assert mean_shift(x, 1.0, max_iter=1).algorithm == "cells"


@pytest.mark.parametrize(
    ("d", "kernel", "algorithm", "name"),
    [
        *((d, "flat", "auto", "cells" if d < 4 else "full") for d in range(1, 6)),
        *((d, "triangular", "nearest", "cells") for d in range(1, 4)),
        *((d, "gaussian", "auto", "grid" if d < 4 else "full") for d in range(1, 6)),
        (2, "gaussian", "nearest", "grid"),
        *((2, kernel, "full", "full") for kernel in KERNELS),
    ],
)
def test_what_was_used_is_told(d, kernel, algorithm, name):
    assert mean_shift(blobs(9, d), 1.0, kernel, algorithm=algorithm).algorithm == name


@pytest.mark.parametrize("kernel", KERNELS)
def test_auto_looks_at_all_where_cells_cannot_be_counted(kernel):
    x = torch.tensor([[0.0, 0.0, 0.0], [1e9, 1e9, 1e9]])
    assert mean_shift(x, 1e-3, kernel).algorithm == "full"
    with pytest.raises(ValueError, match=r"'nearest'.*\[2, 3\].*'full' or 'auto'"):
        mean_shift(x, 1e-3, kernel, algorithm="nearest")


def test_a_larger_grid_is_worth_its_while_for_more_data():
    x = torch.linspace(0, 1, 600_000, dtype=torch.float64)[:, None]
    x = torch.cat([x, x.new_tensor([[4.5e6 * 0.15]])])
    assert mean_shift(x, 1.0, max_iter=1, memory_limit=2**30).algorithm == "grid"
    assert mean_shift(x[-3000:], 1.0, max_iter=1, memory_limit=2**30).algorithm == "cells"


def test_a_few_points_on_a_wide_map_need_no_grid():
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 28
    found = mean_shift(x, 1.0)
    assert grid.count_nodes(x, 1.0) > 1_000_000
    assert found.algorithm == "cells"
    close(found.ends, mean_shift(x, 1.0, algorithm="full").ends, 1e-3)


def test_a_grid_keeps_to_the_memory():
    x = blobs(1000, 3, spread=0.5, box=8.0)
    ways = [
        mean_shift(x, 1.0, memory_limit=limit)
        for limit in (grid.count_nodes(x, 1.0) * grid.BYTES_PER_NODE + more for more in (0, -1))
    ]
    assert [way.algorithm for way in ways] == ["grid", "cells"]
    close(ways[0].ends, ways[1].ends, 2e-3)


def test_making_a_grid_takes_what_is_said():
    x = blobs(60, 3, spread=0.5, box=20.0)
    tracemalloc.start()
    grid.shift(x, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 < peak / (grid.count_nodes(x, 1.0) * grid.BYTES_PER_NODE) < 1.05


@pytest.mark.parametrize(("kernel", "algorithm"), WAYS)
@settings(deadline=None, max_examples=6)
@given(d=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_order_place_and_turn_change_nothing(kernel, algorithm, d, seed):
    x, generator = blobs(60, d, seed=seed, spread=0.3, box=5.0), torch.Generator().manual_seed(seed)

    def found(points):
        return mean_shift(points, 1.0, kernel, algorithm=algorithm, tol=1e-7, max_iter=2000)

    near, still = 1e-5 if algorithm == "full" else 1e-4, found(x)
    order = torch.randperm(60, generator=generator)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    move = torch.randn(d, generator=generator, dtype=torch.float64) * 100
    for other, ends in (
        (found(x[order]), lambda there: there[order.argsort()]),
        (found(x + move), lambda there: there - move),
        (found(x @ turn), lambda there: there @ turn.T),
    ):
        close(ends(other.ends), still.ends, near)
    assert same_partition(found(x[order]).labels, still.labels[order])


@pytest.mark.parametrize(("kernel", "algorithm"), [way for way in WAYS if way[0] != "flat"])  # there, ties are common
@settings(deadline=None, max_examples=10)
@given(d=st.integers(2, 3), seed=st.integers(0, 2**16))
def test_centres_do_not_hang_on_which_end_is_taken(kernel, algorithm, d, seed):
    x, generator = blobs(60, d, seed=seed, spread=0.3, box=5.0), torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    still = mean_shift(x, 1.0, kernel, algorithm=algorithm)  # with the tolerance that users have
    turned = mean_shift(x[torch.randperm(60, generator=generator)] @ turn, 1.0, kernel, algorithm=algorithm)
    near = 1e-3 if still.algorithm == "grid" else 1e-5
    close(sorted_rows(turned.centres @ turn.T), sorted_rows(still.centres), near)


@pytest.mark.parametrize(("kernel", "algorithm"), WAYS)
def test_the_scale_of_data_and_bandwidth_changes_nothing(kernel, algorithm):
    x = blobs(60, 2)
    one, other = (mean_shift(x * scale, 0.8 * scale, kernel, algorithm=algorithm) for scale in (1.0, 1024.0))
    close(other.ends / 1024, one.ends, 1e-9)
    assert torch.equal(other.labels, one.labels)


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 999}, {"memory_limit": 6000}])
def test_batches_and_memory_change_nothing(kernel, blurring, options):
    x = blobs(60, 3)
    parts = mean_shift(x, 0.9, kernel, blurring=blurring, algorithm="full", path=True, **options)
    whole = mean_shift(x, 0.9, kernel, blurring=blurring, algorithm="full", path=True)
    assert parts.iterations == whole.iterations
    close(torch.stack(parts.path), torch.stack(whole.path), 1e-10)
    assert torch.equal(parts.labels, whole.labels)


@pytest.mark.parametrize(("options", "rows"), [({}, 60), ({"batch_size": 7}, 7), ({"batch_size": 50}, 3)])
def test_a_batch_is_as_large_as_asked_and_as_fits(options, rows, monkeypatch):
    sizes, limit = [], 2**20 if options.get("batch_size") != 50 else 3 * 8 * (4 * 60 + 4 * 4)
    kernel = KERNELS["flat"]
    monkeypatch.setitem(KERNELS, "flat", lambda squared, width: sizes.append(len(squared)) or kernel(squared, width))
    mean_shift(blobs(60, 4), 0.9, "flat", memory_limit=limit, max_iter=1, **options)
    assert max(sizes) == rows
    assert sum(sizes[: -(-60 // rows)]) == 60  # what comes after is that of the centres


@pytest.mark.parametrize("algorithm", ["auto", "full"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("blurring", [False, True])
def test_the_path_leads_from_x_to_the_ends(kernel, algorithm, blurring):
    x = blobs()
    found = mean_shift(x, 0.7, kernel, algorithm=algorithm, blurring=blurring, path=True)
    assert len(found.path) == found.iterations + 1 > 2
    assert torch.equal(found.path[0], x)
    assert torch.equal(found.path[-1], found.ends)
    assert len({tuple(points.flatten().tolist()) for points in found.path[:-1]}) == found.iterations
    assert not mean_shift(x, 0.7, kernel, algorithm=algorithm, blurring=blurring).path


@pytest.mark.parametrize("algorithm", ["auto", "full"])
@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8]
)
def test_what_comes_back_has_the_dtype_and_device_of_x_and_x_stays(dtype, algorithm, blurring):
    x = (blobs().abs() * 8).to(dtype)
    before = x.clone()
    found = mean_shift(x, 6.0, algorithm=algorithm, blurring=blurring, path=True)
    expected = mean_shift(x.double(), 6.0, algorithm=algorithm, blurring=blurring, path=True)
    assert torch.equal(x, before)
    kind = dtype if dtype.is_floating_point else torch.float64
    for tensor in (found.centres, found.ends, *found.path):
        assert (tensor.dtype, tensor.device) == (kind, x.device)
        assert tensor.data_ptr() != x.data_ptr()
    assert (found.labels.dtype, found.labels.device, found.labels.shape) == (torch.int64, x.device, (len(x),))
    assert torch.equal(found.ends, expected.ends.to(kind))
    assert torch.equal(found.centres, expected.centres.to(kind))
    assert torch.equal(found.labels, expected.labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_on_a_gpu_all_stays_there(kernel, blurring):
    x = blobs()
    there = mean_shift(x.cuda(), 0.8, kernel, blurring=blurring, path=True)
    here = mean_shift(x, 0.8, kernel, blurring=blurring, algorithm="full")
    assert there.algorithm == "full"
    assert all(found.is_cuda for found in (there.labels, there.centres, there.ends, *there.path))
    close(there.ends.cpu(), here.ends, 1e-9)
    assert torch.equal(there.labels.cpu(), here.labels)
    with pytest.raises(ValueError, match=r"'nearest'.*CPU.*cuda"):
        mean_shift(x.cuda(), 0.8, kernel, algorithm="nearest")


def test_x_may_lie_in_memory_in_any_way_and_need_a_gradient():
    x = blobs(60, 3)
    strided = torch.stack([x, -x], dim=2).transpose(0, 1)[..., 0].T.requires_grad_()
    assert torch.equal(mean_shift(strided, 0.9).ends, mean_shift(x, 0.9).ends)
    assert not mean_shift(strided, 0.9).ends.requires_grad


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("algorithm", ["auto", "full"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("x", [torch.tensor([[2.5, -1.0]]), torch.full((7, 1), 3.25), torch.zeros(5, 3)])
def test_a_point_alone_and_points_all_equal_are_one_cluster_where_they_are(x, kernel, algorithm, blurring):
    found = mean_shift(x, 0.5, kernel, algorithm=algorithm, blurring=blurring, path=True)
    close(found.ends, x, 1e-6)
    close(found.centres, x[:1], 1e-6)
    assert found.labels.tolist() == [0] * len(x)
    assert found.iterations == 1
    assert len(found.path) == 2


@pytest.mark.parametrize("blurring", [False, True])
@pytest.mark.parametrize("algorithm", ["auto", "full"])
@pytest.mark.parametrize("max_iter", [1, 4])
def test_max_iter_stops(max_iter, algorithm, blurring):
    x = blobs(100, 2, spread=1.5)
    short = mean_shift(x, 0.8, algorithm=algorithm, blurring=blurring, max_iter=max_iter, tol=1e-9)
    long = mean_shift(x, 0.8, algorithm=algorithm, blurring=blurring, max_iter=max_iter + 1, tol=1e-9, path=True)
    assert (short.iterations, long.iterations) == (max_iter, max_iter + 1)
    assert torch.equal(short.ends, long.path[max_iter])


def test_300_steps_are_taken_at_most_unless_told():
    assert inspect.signature(mean_shift).parameters["max_iter"].default == 300


@pytest.mark.parametrize("blurring", [False, True])
def test_a_smaller_tol_takes_more_steps_and_a_thousandth_is_taken_unless_told(blurring):
    steps = {tol: mean_shift(blobs(), 1.0, blurring=blurring, tol=tol).iterations for tol in (1e-1, 1e-3, 1e-6)}
    assert steps[1e-1] <= steps[1e-3] <= steps[1e-6] > steps[1e-1]  # blurring gathers faster than any rate
    assert mean_shift(blobs(), 1.0, blurring=blurring).iterations == steps[1e-3]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("algorithm", ["auto", "full"])
def test_centres_are_the_densest_first(kernel, algorithm):
    places = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    sizes = torch.tensor([10, 30, 20])
    x = places.repeat_interleave(sizes, 0) + 0.2 * blobs(60, 2, 1, spread=1.0, box=0.0)
    found = mean_shift(x, 1.5, kernel, algorithm=algorithm)
    close(found.centres, places[[1, 2, 0]], 0.3)
    assert found.labels.tolist() == [2] * 10 + [0] * 30 + [1] * 20


def test_modes_within_a_bandwidth_of_a_denser_one_are_merged_into_it():
    x = torch.tensor([0.0, 0.0, 0.0, 0.9, 0.9, 1.7, 1.7, 5.0, 6.1], dtype=torch.float64)[:, None]
    found = mean_shift(x, 1.0, "gaussian", algorithm="full", max_iter=1, tol=1e-9)
    apart = torch.cdist(found.centres, found.centres) + torch.eye(len(found.centres)) * 9
    assert apart.min() > 1
    assert (torch.cdist(found.ends, found.centres).min(1).values <= 1).all()


@settings(deadline=None, max_examples=20)
@given(kernel=st.sampled_from(list(KERNELS)), d=st.integers(1, 3), seed=st.integers(0, 2**16), blurring=st.booleans())
def test_no_two_centres_are_within_a_bandwidth_and_every_end_is(kernel, d, seed, blurring):
    found = mean_shift(blobs(60, d, 6, seed, spread=0.8), 0.6, kernel, blurring=blurring, tol=1e-7, max_iter=5000)
    apart = torch.cdist(found.centres, found.centres).fill_diagonal_(9)
    assert apart.min() > 0.6
    assert (torch.cdist(found.ends, found.centres).min(1).values <= 0.6).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("x", "bandwidth", "max_iter"), [(blobs(1500, 6), 0.4, 1), (LINE, 0.03, 300), (HILL, 0.02, 30)]
)
def test_centres_that_climb_into_another_are_merged_again(kernel, x, bandwidth, max_iter):
    found = mean_shift(x, bandwidth, kernel, max_iter=max_iter)
    assert len(found.centres) == 1 or torch.pdist(found.centres).min() > bandwidth


def test_an_offset_costs_no_digits_and_no_time():
    x = blobs(200, 4).mul(2**10).round().div(2**10)  # so that 2^27 more are exact
    here, there = (mean_shift(x + offset, 0.8, algorithm="full", path=True) for offset in (0, 2**27))
    assert there.iterations == here.iterations
    assert torch.equal(there.labels, here.labels)
    for ours, theirs in ((here.centres, there.centres), (here.ends, there.ends), (here.path[0], there.path[0])):
        close(theirs - 2**27, ours, 1e-7)


def test_large_whole_numbers_keep_their_places():
    x = torch.tensor([[100_000_003], [100_000_004], [100_000_009], [100_000_010]])
    expected = torch.tensor([100_000_003.5, 100_000_009.5], dtype=torch.float64)
    close(sorted_rows(mean_shift(x, 1.0, "flat").centres).flatten(), expected, 1e-6)


def test_labels_number_the_centre_nearest_to_the_data_or_with_blurring_to_the_ends():
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 5
    for blurring in (False, True):
        found = mean_shift(x, 0.9, "flat", blurring=blurring)
        by_data, by_ends = (torch.cdist(points, found.centres).argmin(1) for points in (x, found.ends))
        assert (by_data != by_ends).any()
        assert torch.equal(found.labels, by_ends if blurring else by_data)


def test_blurring_moves_the_data_too():
    x = blobs(60, 2, spread=0.5)
    assert mean_shift(x, 1.0, blurring=True).iterations < mean_shift(x, 1.0).iterations
    close(mean_shift(x, 1.0, path=True, max_iter=1).ends, mean_shift(x, 1.0, blurring=True, max_iter=1).ends, 1e-12)


def test_the_gaussian_is_taken_unless_told():
    assert torch.equal(mean_shift(blobs(), 1.0).ends, mean_shift(blobs(), 1.0, "gaussian").ends)


def test_clusters_cannot_be_changed():
    with pytest.raises(AttributeError):
        mean_shift(blobs(), 1.0).iterations = 7


def tight(n=300, d=12):
    """Four clouds in many dimensions."""
    draw = torch.Generator().manual_seed(0)
    return 5 * torch.randn(4, d, generator=draw).repeat(n // 4, 1) + torch.randn(n, d, generator=draw)


@pytest.mark.parametrize("kernel", ["gaussian", "flat", "triangular"])
def test_a_search_that_finds_everything_gives_the_full_answer(kernel):
    x = tight().double() + 1e3
    everything = partial(knn, data=x, n_neighbors=300)
    plainly, near = mean_shift(x, 3.0, kernel), mean_shift(x, 3.0, kernel, neighbours=everything)
    assert (plainly.algorithm, near.algorithm) == ("full", "neighbours")
    assert torch.equal(plainly.labels, near.labels)
    torch.testing.assert_close(plainly.centres, near.centres)
    assert 4 <= len(near.centres) < 150


def test_searches_that_do_not_look_at_everything_find_the_same_clouds():
    x = tight()
    truth = torch.arange(300) % 4
    quantizer, lists, tables = train_quantizer(x, 4, n_codes=64), build_lists(x, 8), build_lsh(x, n_bits=4)
    searches = (
        partial(quantizer.search, codes=quantizer.encode(x), n_neighbors=100),
        partial(lists.search, n_neighbors=100, n_probes=4),
        partial(tables.search, n_neighbors=100, n_probes=8),
    )
    for search in searches:
        found = mean_shift(x, 3.0, neighbours=search)
        assert adjusted_rand_score(truth, found.labels) == 1
        assert found.centres.dtype == x.dtype


def test_a_point_that_finds_no_neighbours_stays():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])

    def nothing(points):
        return Neighbours(torch.full((len(points), 2), torch.inf), torch.full((len(points), 2), -1))

    found = mean_shift(x, 1.0, neighbours=nothing)
    assert torch.equal(found.ends, x)


def test_neighbours_and_another_algorithm_or_blurring_are_refused():
    x = tight(40)
    search = partial(knn, data=x, n_neighbors=5)
    with pytest.raises(ValueError, match="do not go together with algorithm 'full'"):
        mean_shift(x, 1.0, neighbours=search, algorithm="full")
    with pytest.raises(ValueError, match="do not go together with blurring=True: the data would move on"):
        mean_shift(x, 1.0, neighbours=search, blurring=True)


def test_products_take_the_place_of_differences_where_no_digit_is_lost():
    x = tight().double()
    assert full.products_do(x - x.median(dim=0).values, 3.0)
    assert not full.products_do(x + 1e7, 3.0)
    assert not full.products_do(x[:, :3], 3.0)
    by_products = full.shift(x, 3.0, "gaussian", 50)(x)
    by_differences = full._step(x, x, 3.0, KERNELS["gaussian"], full.squared_distances)
    for ours, theirs in zip(by_products, by_differences, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_under_the_flat_kernel_points_at_one_place_move_as_one():
    calls = []

    def step(points):
        calls.append(len(points))
        return points + 1, points.new_ones(len(points))

    once = _once_each(lambda data: step)(torch.zeros(1, 2, dtype=torch.float64))
    points = torch.tensor([[1.0, 2.0], [3.0, 0.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    moved, weight = once(points)
    assert calls == [3]
    assert torch.equal(moved, points + 1)
    assert len(weight) == 5
