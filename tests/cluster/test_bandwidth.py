"""The bandwidth against scikit-learn's, its draws, and its memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from torch.utils._python_dispatch import TorchDispatchMode

from lib.cluster.backends import full
from lib.cluster.bandwidth import estimate_bandwidth
from lib.cluster.mean_shift import mean_shift
from tests.cluster.blobs import blobs


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 60),
    d=st.integers(1, 4),
    quantile=st.sampled_from([0.001, 0.05, 0.1, 0.25, 0.3, 0.5, 0.77, 1.0]),
    seed=st.integers(0, 2**16),
    twice=st.booleans(),
)
def test_it_is_scikit_learns(n, d, quantile, seed, twice):
    x = blobs(n, d, seed=seed)
    x = x.repeat(2, 1) if twice else x
    theirs = cluster.estimate_bandwidth(x.numpy(), quantile=quantile)
    assert estimate_bandwidth(x, quantile) == pytest.approx(
        theirs, rel=1e-9, abs=1e-6
    )  # its distances lose digits near 0


def test_three_tenths_are_taken_unless_told():
    x = blobs()
    assert estimate_bandwidth(x) == estimate_bandwidth(x, 0.3) != estimate_bandwidth(x, 0.29)


@pytest.mark.parametrize("quantile", [0.0, -0.1, 1.001, float("nan")])
def test_a_quantile_out_of_range_is_refused(quantile):
    with pytest.raises(ValueError, match=f"quantile.*0.*1.*{quantile}"):
        estimate_bandwidth(blobs(), quantile)


@pytest.mark.parametrize("n_samples", [0, -3])
def test_no_samples_are_refused(n_samples):
    with pytest.raises(ValueError, match=f"n_samples.*1.* {n_samples}"):
        estimate_bandwidth(blobs(), n_samples=n_samples)


def test_a_generator_draws_the_same_points_again():
    def drawn(seed, n_samples=20):
        return estimate_bandwidth(blobs(), n_samples=n_samples, generator=torch.Generator().manual_seed(seed))

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) == 5


def test_without_a_generator_torchs_own_draws():
    torch.manual_seed(3)
    first = estimate_bandwidth(blobs(), n_samples=20)
    second = estimate_bandwidth(blobs(), n_samples=20)
    torch.manual_seed(3)
    assert first == estimate_bandwidth(blobs(), n_samples=20) != second


def test_the_points_drawn_are_points_of_the_data_each_once():
    x = 2.0 ** torch.arange(12, dtype=torch.float64)[:, None]  # every difference tells its two points
    pairs = {(x[i] - x[j]).abs().item() for i in range(12) for j in range(i)}
    found = {
        estimate_bandwidth(x, 1.0, n_samples=2, generator=torch.Generator().manual_seed(seed)) for seed in range(40)
    }
    assert found <= pairs
    assert len(found) > 20


@pytest.mark.parametrize("n_samples", [60, 61, 1000])
def test_as_many_samples_as_points_are_all_of_them(n_samples):
    state = torch.get_rng_state()
    assert estimate_bandwidth(blobs(60), n_samples=n_samples) == estimate_bandwidth(blobs(60))
    assert torch.equal(torch.get_rng_state(), state)


def test_one_sample_is_at_no_distance_from_itself():
    assert estimate_bandwidth(blobs(), n_samples=1) == 0


def test_whole_numbers_and_half_precision_are_computed_in_float64():
    x = torch.randint(-2000, 2000, (50, 3), generator=torch.Generator().manual_seed(0))
    assert estimate_bandwidth(x) == estimate_bandwidth(x.double()) == estimate_bandwidth(x.half())


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation returned."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for found in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(found, torch.Tensor):
                self.bytes = max(self.bytes, found.untyped_storage().nbytes())
        return result


def test_a_memory_limit_holds_and_changes_nothing():
    x = blobs(300)
    with Largest() as largest:
        small = estimate_bandwidth(x, memory_limit=50_000)
    assert largest.bytes <= 50_000
    assert small == pytest.approx(estimate_bandwidth(x), rel=1e-12)


def test_half_a_gibibyte_may_be_held_unless_told(monkeypatch):
    limits, rows_within = [], full.rows_within
    monkeypatch.setattr(full, "rows_within", lambda limit, *shape: limits.append(limit) or rows_within(limit, *shape))
    estimate_bandwidth(blobs())
    assert limits == [2**29]


def test_a_memory_limit_too_small_for_one_row_is_refused():
    with pytest.raises(ValueError, match=r"memory limit.* 100 bytes.*1984"):
        estimate_bandwidth(blobs(), memory_limit=100)


def test_duplicates_have_a_bandwidth_of_0_and_are_told_what_to_do():
    x = torch.cat([blobs(20)] * 10)
    bandwidth = estimate_bandwidth(x, 0.05)  # each point's ten nearest are itself
    assert bandwidth == cluster.estimate_bandwidth(x.numpy(), quantile=0.05) == 0
    with pytest.raises(ValueError, match=r"bandwidth.* 0.*larger quantile.*x\.unique"):
        mean_shift(x, bandwidth)
    for wider in (estimate_bandwidth(x, 0.3), estimate_bandwidth(x.unique(dim=0), 0.1)):
        assert len(mean_shift(x, wider).centres) >= 1


def test_samples_are_whole():
    with pytest.raises(ValueError, match=r"n_samples.*2\.5"):
        estimate_bandwidth(blobs(), n_samples=2.5)
