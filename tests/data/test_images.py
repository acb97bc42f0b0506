"""Every kind of picture comes out as RGB in [0, 1], and what is none is refused by name."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
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


GREY = np.array([[0, 64, 255]], np.uint8)
SHADES = GREY / 255
DEEP = np.array([[0, 4660, 65535]], np.uint16)
OPACITY = np.array([[255, 51, 0]], np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 128, 0], [255, 255, 255]]], np.uint8)
RED_GREEN_BLUE = [255, 0, 0, 0, 255, 0, 0, 0, 255]


def palette(transparent=None, mode="RGB"):
    """An image of palette indices 0, 1, 2: red, green and blue."""
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 255, 255] if mode == "RGBA" else RED_GREEN_BLUE, mode)
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def see_through(image, transparent):
    image.info["transparency"] = transparent
    return image


def on_white(values, opacity):
    """The oracle: what a screen shows of values in [0, 1] over white paper."""
    opacity = np.broadcast_to(opacity / 255, values.shape)
    return np.array([v * a + 1 - a for v, a in zip(values.ravel(), opacity.ravel(), strict=True)]).reshape(values.shape)


def bands(mode, *planes):
    return Image.merge(mode, [Image.fromarray(plane) for plane in planes])


def big_endian(values):
    return Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())


MODES = {
    "1": (Image.fromarray(GREY > 0), GREY > 0),
    "1, black transparent": (see_through(Image.fromarray(GREY > 0), 0), np.ones((1, 3))),
    "L": (Image.fromarray(GREY), SHADES),
    "L, one grey transparent": (see_through(Image.fromarray(GREY), 64), [[0, 1, 1]]),
    "LA": (bands("LA", GREY, OPACITY), on_white(SHADES, OPACITY)),
    "La": (bands("LA", GREY, OPACITY | 255).convert("La"), SHADES),
    "P": (palette(), np.eye(3)[None]),
    "P, one index transparent": (palette(1), [[[1, 0, 0], [1, 1, 1], [0, 0, 1]]]),
    "P, an opacity for each": (palette(bytes(OPACITY[0])), on_white(np.eye(3)[None], OPACITY[..., None])),
    "P of RGBA": (palette(mode="RGBA"), [[[1, 1, 1], [0, 1, 0], [0, 0, 1]]]),
    "PA": (palette().convert("PA"), np.eye(3)[None]),
    "RGB": (Image.fromarray(COLOURS), COLOURS / 255),
    "RGB, one colour transparent": (
        see_through(Image.fromarray(COLOURS), (255, 0, 0)),
        [[[1] * 3, [0, 128 / 255, 0], [1] * 3]],
    ),
    "RGBA": (Image.fromarray(np.dstack([COLOURS, OPACITY])), on_white(COLOURS / 255, OPACITY[..., None])),
    "RGBA, all of it opaque": (Image.fromarray(COLOURS).convert("RGBA"), COLOURS / 255),
    "RGBa": (Image.fromarray(COLOURS).convert("RGBA").convert("RGBa"), COLOURS / 255),
    "RGBX": (Image.fromarray(COLOURS).convert("RGBX"), COLOURS / 255),
    "CMYK": (bands("CMYK", *(255 - COLOURS.transpose(2, 0, 1)), GREY * 0), COLOURS / 255),
    "I": (Image.fromarray(DEEP.astype(np.int32)), DEEP / 65535),
    "F": (Image.fromarray(SHADES.astype(np.float32)), SHADES),
    "I;16": (Image.fromarray(DEEP), DEEP / 65535),
    "I;16, one grey transparent": (see_through(Image.fromarray(DEEP), 4660), [[0, 1, 1]]),
    "I;16B": (big_endian(DEEP), DEEP / 65535),
}
NEAR = {  # by other colours and back; of Lab 8 bits are coarse
    "YCbCr": (Image.fromarray(COLOURS).convert("YCbCr"), 2 / 255),
    "HSV": (Image.fromarray(COLOURS).convert("HSV"), 1 / 255),
    "LAB": (bands("LAB", GREY, GREY * 0 + 128, GREY * 0 + 128), None),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_the_picture_that_it_shows(mode):
    image, wanted = MODES[mode]
    assert image.mode == mode.split(",")[0].split(" ")[0]
    wanted = np.asarray(wanted, np.float64)
    grey = wanted.ndim == 2
    own = images.pixels(image)
    values = own / 255 if own.dtype == torch.uint8 else own
    assert own.shape == (1 if grey else 3, 1, 3)
    assert_allclose(values, wanted[None] if grey else wanted.transpose(2, 0, 1), atol=1e-6)
    assert own.dtype in (torch.uint8, torch.float32)
    assert_array_equal(images.load(image)[0], values.expand(3, -1, -1))


@pytest.mark.parametrize("mode", NEAR)
def test_other_colours_of_pillow_are_turned_to_rgb(mode):
    image, tolerance = NEAR[mode]
    picture = images.load(image)[0].permute(1, 2, 0)
    if mode == "LAB":  # lightness 0, 25 and 100, without colour: black, #3b3b3b and white
        assert_allclose(picture * 255, [[[0] * 3, [59.5] * 3, [255] * 3]], atol=2)
    else:
        assert_allclose(picture, COLOURS / 255, atol=tolerance)
    assert images.pixels(image).dtype == torch.uint8


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "I;16"])
def test_a_file_is_the_picture_that_was_saved(mode, tmp_path):
    image, wanted = MODES[mode]
    file = tmp_path / f"picture.{'tiff' if mode == 'CMYK' else 'png'}"
    image.save(file)
    wanted = np.asarray(wanted, np.float64)
    wanted = wanted[None].repeat(3, 0) if wanted.ndim == 2 else wanted.transpose(2, 0, 1)
    assert_allclose(images.load(file)[0], wanted, atol=1e-6)


def test_bytes_are_kept_where_they_hold_the_picture():
    kinds = {mode: images.pixels(image).dtype for mode, (image, _) in MODES.items()}
    assert {kinds[mode] for mode in ("1", "L", "P", "RGB", "CMYK", "RGBA, all of it opaque")} == {torch.uint8}
    assert {kinds[mode] for mode in ("I", "F", "I;16", "I;16B", "RGBA", "LA")} == {torch.float32}


def test_numbers_of_the_other_order_of_bytes_are_the_same_picture():
    for values in (DEEP, SHADES.astype(np.float32)):
        other = values.astype(values.dtype.newbyteorder(">"))
        assert_array_equal(images.load(other), images.load(values))


def test_what_lies_outside_of_16_bits_or_of_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"pixels.*8 or 16 bits.*\[0, 1\].*int32"):
        images.pixels(Image.fromarray(np.array([[-1, 70000]], np.int32)))
    with pytest.raises(ValueError, match=r"floats.*\[0, 1\].*0 to 255"):
        images.pixels(Image.fromarray(GREY.astype(np.float32)))


def turned(image, orientation=6):
    """The image with the note that the camera was held upright: to be turned by a quarter, clockwise."""
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_of_pillow_is_turned_as_its_exif_tells(rgb, orientation):
    upright = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1),
        7: np.rot90(rgb, 2).transpose(1, 0, 2),
        8: np.rot90(rgb),
    }[orientation]
    image = turned(Image.fromarray(rgb), orientation)
    assert_array_equal(images.pixels(image), upright.transpose(2, 0, 1))
    assert_array_equal(images.load(image), images.load(upright))
    assert image.size == (7, 5)  # the caller's own is left as it is
    grey = turned(Image.fromarray(rgb[..., 0].astype(np.uint16)), orientation)
    assert_allclose(images.pixels(grey)[0], upright[..., 0] / 65535, atol=1e-7)


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
        (np.zeros((4, 4, 5), np.uint8), r"picture.*\[h, w\].*\[4, 4, 5\]"),
        (np.zeros(4, np.uint8), r"picture.*\[h, w\].*\[4\]"),
        (np.zeros((0, 4), np.uint8), r"picture.*\[0, 4\]"),
        (np.zeros((4, 4), np.int64), "8 or 16 bits.*int64"),
        (np.full((4, 4), 70000, np.int32), "8 or 16 bits.*int32"),
        (np.full((4, 4), 255.0), r"\[0, 1\].*255 to 255"),
        (np.full((4, 4), np.nan), r"\[0, 1\].*nan to nan"),
        (torch.zeros(2, 3, 4, 4), r"\[1, 3, h, w\].*\[2, 3, 4, 4\]"),
        (torch.zeros(4, 4), r"\[1, 3, h, w\].*\[4, 4\]"),
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
    with pytest.raises(ValueError, match=r"size=\(0, 4\)"):
        images.resize(picture, (0, 4))


def test_a_smaller_picture_has_no_moire():
    stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
    assert_allclose(images.resize(stripes, 64)[..., 4:-4], 0.5, atol=0.01)


def test_array_is_what_load_read(rgb):
    assert np.array_equal(images.array(images.load(rgb)), rgb)
    assert np.array_equal(images.array(images.load(rgb)[0]), rgb)
