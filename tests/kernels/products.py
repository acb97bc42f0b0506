"""What the tests of all products share: matrices of any shape and layout, and how near float64 a result must be."""

import torch
from hypothesis import strategies as st

LAYOUTS = ("contiguous", "transposed", "strided", "offset")


def matrix(rows, columns, dtype, layout, seed):
    """Draw a matrix [rows, columns] that lies in memory in one of LAYOUTS."""
    generator = torch.Generator().manual_seed(seed)
    if layout == "transposed":
        return torch.randn(columns, rows, dtype=dtype, generator=generator).T
    if layout == "strided":
        return torch.randn(2 * rows, 3 * columns, dtype=dtype, generator=generator)[::2, 1::3]
    if layout == "offset":
        return torch.randn(rows * columns + 1, dtype=dtype, generator=generator)[1:].view(rows, columns)
    return torch.randn(rows, columns, dtype=dtype, generator=generator)


@st.composite
def pairs(draw, largest, dtypes=(torch.float32, torch.float64)):
    """Draw two matrices that can be multiplied, sides from 0 to `largest`."""
    m, k, n = (draw(st.integers(0, largest)) for _ in range(3))
    dtype, seed = draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**16))
    layouts = st.sampled_from(LAYOUTS)
    return matrix(m, k, dtype, draw(layouts), seed), matrix(k, n, dtype, draw(layouts), seed + 1)


def assert_is_product(c, a, b, contiguous=True):
    """Compare with float64; the error of a sum of k products is at most about k roundings of the sum of their sizes."""
    assert c.shape == (a.shape[0], b.shape[1])
    assert c.dtype == a.dtype
    assert c.device == a.device
    assert c.is_contiguous() or not contiguous
    exact = a.double() @ b.double()
    bound = (a.shape[1] + 1) * torch.finfo(a.dtype).eps * (a.double().abs() @ b.double().abs())
    error = (c.double() - exact).abs()
    assert (error <= bound).all(), f"error {error.max():.3g} over the bound {bound.max():.3g}"
