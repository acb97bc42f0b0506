"""DBSCAN labels as scikit-learn's does, by cells and by all distances."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster

from lib.cluster.dbscan import dbscan
from tests.cluster.test_neighbours import table


@given(
    n=st.integers(1, 80), d=st.integers(1, 5), eps=st.sampled_from([0.05, 0.3, 1.0, 5.0]),
    min_samples=st.integers(1, 9), seed=st.integers(0, 999), whole=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_labels_and_core_are_those_of_scikit_learn(n, d, eps, min_samples, seed, whole):
    x = table(n, d, seed)
    if whole:  # duplicates, and distances of exactly eps
        x, eps = x.round(), math.ceil(eps)
    found = dbscan(x, eps, min_samples)
    wanted = cluster.DBSCAN(eps=eps, min_samples=min_samples).fit(x.numpy())
    assert found.labels.tolist() == wanted.labels_.tolist()
    assert found.core.nonzero()[:, 0].tolist() == wanted.core_sample_indices_.tolist()


def rings(n=3000):
    angles, kinds = torch.linspace(0, 40 * math.pi, n, dtype=torch.float64), torch.arange(n) % 2
    return torch.stack([angles.cos(), angles.sin()], 1) * (1 + kinds[:, None]), kinds


@pytest.mark.parametrize("padding", [0, 3])
def test_rings_are_told_apart_in_the_plane_and_in_more_dimensions(padding):
    x, kinds = rings()
    x = torch.cat([x, torch.zeros(len(x), padding)], 1)
    found = dbscan(x, 0.3, 4, memory_limit=2**24)
    assert found.labels.tolist() == kinds.tolist()
    assert found.core.all()


def test_a_long_chain_is_one_cluster():
    x = torch.arange(5000.0).flip(0)[:, None]
    assert not dbscan(x, 1.0, 2).labels.any()
    assert not dbscan(torch.cat([x[:500]] + 3 * [torch.zeros(500, 1)], 1), 1.0, 2).labels.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.int32, torch.uint8])
@pytest.mark.parametrize("d", [2, 5])
def test_other_numbers_are_taken_as_they_are(dtype, d):
    x = table(60, d).mul(3).abs().round().to(dtype)
    assert torch.equal(dbscan(x, 1.0, 3).labels, dbscan(x.double(), 1.0, 3).labels)


def test_shift_scale_and_order_change_nothing_but_the_numbers_of_the_clusters():
    x = table(300, 2)
    found = dbscan(x, 0.25, 4)
    moved = dbscan(8 * x + 1024, 2.0, 4)
    assert torch.equal(found.labels, moved.labels)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    shuffled = dbscan(x[order], 0.25, 4)
    assert torch.equal(shuffled.core, found.core[order])
    core = found.core[order]
    pairs = set(zip(found.labels[order][core].tolist(), shuffled.labels[core].tolist(), strict=True))
    assert len(pairs) == len(found.labels[found.core].unique())


def test_places_too_far_apart_for_cells_are_no_trouble():
    x = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [1e9, 1e9]], dtype=torch.float64)
    assert dbscan(x, 1e-8, 2).labels.tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, got 0"),
        ({"eps": math.nan}, "eps must be positive"),
        ({"eps": 1.0, "min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"eps": 1.0, "memory_limit": 10}, "memory limit of 10 bytes is too small"),
    ],
)
def test_what_cannot_be_done_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        dbscan(table(10, 5), **options)
    assert np.isfinite(dbscan(table(10, 5), 1.0).labels.numpy()).all()


def test_who_is_near_is_kept_or_computed_anew_with_one_answer():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept, anew = dbscan(x, 1.5, 4), dbscan(x, 1.5, 4, memory_limit=2 * 200**2 - 1)
    assert 0 < kept.core.sum() < 200
    assert torch.equal(kept.labels, anew.labels)
    assert torch.equal(kept.core, anew.core)
