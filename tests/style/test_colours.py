"""Colours are carried over as the formulas say."""

import pytest
import torch
from numpy.testing import assert_allclose

from lib.style.colours import luminance, match_colours, replace_chrominance
from tests.style.helpers import picture


def statistics(x):
    pixels = x[0].flatten(1)
    return pixels.mean(1), torch.cov(pixels)


def test_matched_colours_have_the_mean_and_covariance_of_the_other():
    a, b = picture(40, 50, 1) * 0.4 + 0.3, picture(30, 20, 2) * 0.2 + torch.tensor([0.2, 0.4, 0.5]).view(3, 1, 1)
    moved = match_colours(a, b)
    assert moved.shape == a.shape
    assert 0 < moved.min() < moved.max() < 1
    for found, wanted in zip(statistics(moved), statistics(b), strict=True):
        assert_allclose(found, wanted, atol=1e-4)
    assert_allclose(match_colours(a, a), a, atol=1e-9)


def test_a_grey_picture_can_take_and_give_colours():
    a, b = picture(20, 20, 1), luminance(picture(20, 20, 2)) * 0.5 + 0.2
    assert match_colours(b, a).isfinite().all()
    moved = match_colours(a, b)
    assert (moved - moved.mean(1, keepdim=True)).abs().max() < 0.05


def test_brightness_is_one_picture_s_and_colour_the_other_s():
    a, b = picture(20, 24, 1) * 0.2 + 0.4, picture(20, 24, 2) * 0.2 + 0.4
    mixed = replace_chrominance(a, b)
    assert_allclose(luminance(mixed), luminance(a), atol=1e-3)
    assert_allclose(mixed - luminance(mixed), b - luminance(b), atol=1e-3)
    assert_allclose(replace_chrominance(a, a), a, atol=1e-6)
    with pytest.raises(ValueError, match=r"\[1, 3, 20, 24\].*\[1, 3, 4, 4\]"):
        replace_chrominance(a, picture(4, 4))
    with pytest.raises(ValueError, match=r"\[1, 3, h, w\].*\[2, 3, 4, 4\]"):
        match_colours(picture(4, 4, n=2), a)
