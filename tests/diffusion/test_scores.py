"""FID and KID against plain formulas in float64, and what they must be for equal, shifted and scaled sets."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from lib.diffusion.scores import fid, kid, nearest


def features(n=200, d=8, seed=0, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixed * scale + shift


def plain_fid(x, y):
    x, y = x.numpy(), y.numpy()
    c1, c2 = np.cov(x.T), np.cov(y.T)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)


def plain_kid(x, y):
    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(20, 120), m=st.integers(20, 120), d=st.integers(2, 10), seed=st.integers(0, 2**16))
def test_fid_is_the_formula(n, m, d, seed):
    x, y = features(n, d, seed), features(m, d, seed + 1, shift=0.3)
    assert fid(x, y) == pytest.approx(plain_fid(x, y), rel=1e-6, abs=1e-8)


def test_kid_is_the_formula():
    x, y = features(12, 4), features(15, 4, seed=1, shift=0.2)
    assert kid(x, y) == pytest.approx(plain_kid(x, y), rel=1e-9)


def test_identical_sets_have_distance_0():
    x = features()
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    assert fid(x, x[torch.randperm(200)]) == pytest.approx(0, abs=1e-9)


def test_a_shift_and_a_scale_are_what_they_add():
    x = features(500)
    assert fid(x, x + 2) == pytest.approx(8 * 4, rel=1e-9)
    spread = (x - x.mean(0)).square().sum(1).sum().item() / 499
    assert fid(x - x.mean(0), 3 * (x - x.mean(0))) == pytest.approx(4 * spread, rel=1e-9)


def test_both_are_symmetric():
    x, y = features(), features(150, seed=1)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-9)
    assert kid(x, y) == pytest.approx(kid(y, x), rel=1e-9)


def test_kid_is_unbiased_and_fid_is_not():
    drawn = torch.randn(200, 2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kids, fids = (np.array([score(x, y) for x, y in drawn]) for score in (kid, fid))
    assert abs(kids.mean()) < 3 * kids.std() / len(kids) ** 0.5
    assert fids.mean() > 5 * fids.std() / len(fids) ** 0.5


def test_few_samples_are_warned_of():
    with pytest.warns(UserWarning, match="ours.* 8 samples.* 8 features"):
        fid(features(8), features())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fid(features(9), features())


@pytest.mark.parametrize("score", [fid, kid])
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(5), torch.zeros(5, 2), r"\[n, d\].*\[5\]"),
        (torch.zeros(1, 2), torch.zeros(5, 2), r"\[n, d\].*\[1, 2\]"),
        (features(20, 3), features(20, 4), "features.* 3 and 4"),
        (torch.full((5, 2), torch.nan), torch.zeros(5, 2), "features.*NaN.* 5 rows"),
    ],
)
def test_what_is_no_two_sets_is_refused(score, x, y, words):
    with pytest.raises(ValueError, match=words):
        score(x, y)


def test_the_nearest_picture_is_found_in_batches():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(50, 1, 4, 4, generator=generator)
    drawn = real[[7, 3, 49]] + 0.01
    index, far = nearest(drawn, real, batch_size=2)
    assert index.tolist() == [7, 3, 49]
    torch.testing.assert_close(far, torch.full((3,), 0.04), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match=r"images.*\[3, 1, 4, 3\].*\[50, 1, 4, 4\]"):
        nearest(drawn[..., :3], real)


def test_the_distance_of_a_copy_is_exactly_0_and_of_a_near_one_exact():
    generator = torch.Generator().manual_seed(0)
    real = 1 + torch.rand(100, 1, 32, 32, generator=generator)  # far from 0, where squared norms are large
    index, far = nearest(real, real)
    assert index.tolist() == list(range(100))
    assert (far == 0).all()
    nudged = real.clone()
    nudged[:, 0, 5, 5] += 1e-3
    torch.testing.assert_close(nearest(nudged, real)[1], torch.full((100,), 1e-3), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("size", "step"), [(128, 1.0), (32, 0.01)])
def test_each_of_many_near_copies_is_found_though_all_are_candidates(size, step):
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (1, size, size), generator=generator).float().repeat(300, 1, 1, 1)
    for i in range(300):
        real[i, 0, i // 32, i % 32] += step  # each differs from each other by two pixels
    index, far = nearest(real, real)
    assert index.tolist() == list(range(300))
    assert (far == 0).all()
