"""Every kind of picture comes out as RGB in [0, 1], and what is none is refused by name."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image, UnidentifiedImageError

from lib.data import images


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_eight_and_sixteen_bits_bools_and_floats_are_the_same_picture(rgb):
    wanted = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    for same in (rgb, rgb.astype(np.uint16) * 257, rgb / 255, Image.fromarray(rgb), wanted, wanted[0], wanted.double()):
        picture = images.load(same)
        assert picture.shape == (1, 3, 5, 7)
        assert picture.dtype == torch.float32
        assert picture.is_contiguous()
        assert_allclose(picture, wanted, atol=1e-6)
    assert images.load(rgb > 127).unique().tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["[h, w]", "[h, w, 1]", "L", "16 bits", "Pillow's 32 bits"])
def test_grey_becomes_three_equal_channels(rgb, kind):
    values = rgb[..., 0]
    wide = values.astype(np.uint16) * 257
    picture = images.load(
        {
            "[h, w]": values,
            "[h, w, 1]": values[..., None],
            "L": Image.fromarray(values),
            "16 bits": Image.fromarray(wide),
            "Pillow's 32 bits": Image.fromarray(wide.astype(np.int32)),
        }[kind]
    )
    assert picture.shape == (1, 3, 5, 7)
    for channel in picture[0]:
        assert_allclose(channel, values / 255, atol=1e-6)


def test_what_is_transparent_is_laid_on_white(rgb):
    opacity = np.linspace(0, 255, 35).round().astype(np.uint8).reshape(5, 7, 1)
    wanted = (rgb / 255 * (opacity / 255) + 1 - opacity / 255).transpose(2, 0, 1)[None]
    rgba = np.concatenate([rgb, opacity], -1)
    assert_allclose(images.load(rgba), wanted, atol=1e-6)
    assert_allclose(images.load(Image.fromarray(rgba)), wanted, atol=1e-6)
    grey = np.concatenate([rgb[..., :1], opacity], -1)
    wanted = (rgb[..., 0] / 255 * (opacity[..., 0] / 255) + 1 - opacity[..., 0] / 255)[None, None].repeat(3, 1)
    assert_allclose(images.load(grey), wanted, atol=1e-6)
    assert_allclose(images.load(Image.fromarray(grey, "LA")), wanted, atol=1e-6)


def test_other_colours_of_pillow_are_turned_to_rgb(rgb):
    image = Image.fromarray(rgb)
    for mode in ("CMYK", "HSV"):
        expected = np.asarray(image.convert(mode).convert("RGB")) / 255
        assert_allclose(images.load(image.convert(mode))[0].permute(1, 2, 0), expected, atol=1e-6)
    flat = Image.new("P", (3, 2))
    flat.putpalette([10, 20, 30])
    assert_allclose(images.load(flat)[0, :, 0, 0] * 255, [10, 20, 30], atol=1e-4)


def test_a_file_is_read_and_turned_as_its_exif_tells(rgb, tmp_path):
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: a quarter turn clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    assert_allclose(images.load(tmp_path / "turned.png"), images.load(np.rot90(rgb, -1)), atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        images.load(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UnidentifiedImageError, match=r"text\.png"):
        images.load(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"expected a picture \[h, w\].*\[4, 4, 5\]"),
        (np.zeros(4, np.uint8), r"expected a picture .*\[4\]"),
        (np.zeros((0, 4), np.uint8), r"needs pixels, got shape \[0, 4\]"),
        (np.zeros((4, 4), np.int64), "8 or 16 bits.* got int64"),
        (np.full((4, 4), 70000, np.int32), "8 or 16 bits.* got int32"),
        (np.full((4, 4), 255.0), r"floats in \[0, 1\], got 255 to 255"),
        (np.full((4, 4), np.nan), r"floats in \[0, 1\], got nan to nan"),
        (torch.zeros(2, 3, 4, 4), r"\[1, 3, h, w\], got \[2, 3, 4, 4\]"),
        (torch.zeros(4, 4), r"\[1, 3, h, w\], got \[4, 4\]"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(source, message):
    with pytest.raises(ValueError, match=message):
        images.load(source)


def test_resize_keeps_the_shape_and_a_flat_colour_and_cuts_overshoot(rgb):
    picture = images.load(rgb)
    assert images.load(rgb, 14).shape == (1, 3, 10, 14)
    assert images.resize(picture, (3, 9)).shape == (1, 3, 3, 9)
    assert images.resize(picture, 7) is picture
    assert_allclose(images.resize(torch.full((1, 3, 40, 60), 0.25), 17), 0.25, atol=1e-6)
    edge = (torch.arange(64) > 31).float().expand(1, 3, 64, 64)
    larger = images.resize(edge, 200)
    assert 0 <= larger.min() <= larger.max() <= 1
    with pytest.raises(ValueError, match=r"at least one pixel a side, got size=\(0, 4\)"):
        images.resize(picture, (0, 4))


def test_a_smaller_picture_has_no_moire():
    stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
    assert_allclose(images.resize(stripes, 64)[..., 4:-4], 0.5, atol=0.01)


def test_array_is_what_load_read(rgb):
    assert np.array_equal(images.array(images.load(rgb)), rgb)
    assert np.array_equal(images.array(images.load(rgb)[0]), rgb)
