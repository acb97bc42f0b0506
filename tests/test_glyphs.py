"""Glyphs: the same on every run, of every class, and letters that a classifier can learn."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from lib import glyphs


def test_the_same_seed_draws_the_same_and_a_smaller_set_is_the_start_of_a_larger():
    images, labels = glyphs.draw(5000, seed=3)
    again, same = glyphs.draw(300, seed=3)
    assert torch.equal(images[:300], again)
    assert torch.equal(labels[:300], same)
    other, _ = glyphs.draw(300, seed=4)
    assert not torch.equal(images[:300], other)


def test_images_are_bytes_with_every_letter_about_as_often():
    images, labels = glyphs.draw(4000, seed=0)
    assert images.shape == (4000, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.bincount(minlength=10).min() > 300
    assert (images.flatten(1).amax(1) > 100).all(), "each picture has ink"
    assert images.flatten(1).float().mean(1).max() < 200, "and paper"


def test_classes_can_be_learnt_but_not_by_their_means_alone():
    train, labels = glyphs.draw(2000, seed=0)
    test, truth = glyphs.draw(1000, seed=1)
    train, test = train.flatten(1).numpy() / 255, test.flatten(1).numpy() / 255
    assert 0.5 < NearestCentroid().fit(train, labels).score(test, truth) < 0.85
    assert LogisticRegression(C=0.05, tol=0.01).fit(train, labels).score(test, truth) > 0.75


def test_each_letter_is_drawn_in_each_font_and_inside_its_square():
    letters = glyphs._letters()
    assert letters.shape[:2] == (10, len(glyphs.FONTS))
    assert (letters.max((2, 3)) == 1).all()
    border = letters.copy()
    border[..., 3:-3, 3:-3] = 0
    assert border.max() == 0
    flat = letters.reshape(10, len(glyphs.FONTS), -1)
    different = (abs(flat[:, None] - flat[None]).mean(-1) > 0.02) | torch.eye(10, dtype=bool)[:, :, None].numpy()
    assert different.all(), "no two letters of a font look alike"


def test_none_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        glyphs.draw(0, seed=0)
