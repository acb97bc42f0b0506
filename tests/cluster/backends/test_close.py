"""The nearest centre, computed in the cache, is the one that a product of matrices finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.backends import close
from tests.cluster.test_neighbours import table


@given(n=st.integers(1, 30), k=st.integers(1, 40), d=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_it_is_the_nearest(n, k, d, seed):
    x, centres = table(n, d, seed), table(k, d, seed + 1)
    assert torch.equal(close.nearest(x, centres), torch.cdist(x, centres).argmin(dim=1))


@pytest.mark.parametrize("k", [1, 2, 3, 7, 256])
def test_of_equals_it_is_the_first(k):
    assert not close.nearest(torch.ones(9, 3), torch.zeros(k, 3)).any()
    assert close.nearest(torch.ones(9, 3), torch.tensor([[5.0] * 3, [1.0] * 3, [1.0] * 3])).tolist() == [1] * 9


def test_it_is_for_few_dimensions():
    assert close.fits(torch.zeros(2, close.MOST))
    assert not close.fits(torch.zeros(2, close.MOST + 1))
