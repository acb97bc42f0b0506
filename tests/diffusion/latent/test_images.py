"""What may be an image, and what becomes of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.diffusion.latent import as_images, decode, encode_image


def image(seed=0, n=1):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_pictures_of_all_kinds_are_the_same_picture(parts):
    array = (image()[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    tensor = torch.from_numpy(array).movedim(-1, 0).float() / 255
    wanted = encode_image(parts, tensor)
    for kind in (array, array[None], tensor[None], Image.fromarray(array), Image.fromarray(array).convert("RGBA")):
        assert torch.allclose(encode_image(parts, kind), wanted, atol=1e-6)
    grey = Image.fromarray(array[..., 0], "L")
    assert encode_image(parts, grey).shape == (1, 4, 16, 16)
    assert decode(parts, wanted).shape == (1, 3, 32, 32)


def see_through():
    return Image.new("RGBA", (32, 32), (255, 0, 0, 0))


def turned():
    image = Image.fromarray(np.tri(32, dtype=np.uint8) * 255)
    image.getexif()[0x0112] = 6  # a quarter turn clockwise
    return image


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (Image.fromarray(np.full((32, 32), 32768, np.uint16)), torch.full((3, 32, 32), 32768 / 65535)),
        (Image.new("I", (32, 32), 32768), torch.full((3, 32, 32), 32768 / 65535)),
        (Image.new("F", (32, 32), 0.25), torch.full((3, 32, 32), 0.25)),
        (see_through(), torch.ones(3, 32, 32)),
        (turned(), torch.from_numpy(np.rot90(np.tri(32), -1).copy()).float().expand(3, -1, -1)),
    ],
    ids=["I;16", "I", "F", "transparent red", "EXIF"],
)
def test_pictures_of_pillow_are_read_as_everywhere(parts, image, wanted):
    assert torch.equal(as_images(parts, image), wanted[None] * 2 - 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(1, 3, 30, 32), r"sides.* 4 .*\[30, 32\]"),
        (torch.zeros(1, 1, 32, 32), r"images.*\[n, 3, h, w\].*\[1, 1, 32, 32\]"),
        (torch.full((3, 32, 32), 255.0), r"images.*\[0, 1\].*255 to 255"),
        (np.zeros((32, 32, 3)), r"array.*uint8.*float64"),
    ],
)
def test_what_is_no_picture_is_named(parts, wrong, message):
    with pytest.raises(ValueError, match=message):
        encode_image(parts, wrong)
