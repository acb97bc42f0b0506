"""What may be an image, and what becomes of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.diffusion.latent import decode, encode_image


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(1, 3, 30, 32), r"sides must be multiples of 4 pixels, got \[30, 32\]"),
        (torch.zeros(1, 1, 32, 32), r"must be float \[n, 3, h, w\], got torch.float32 \[1, 1, 32, 32\]"),
        (torch.full((3, 32, 32), 255.0), r"must be in \[0, 1\], got 255 to 255"),
        (np.zeros((32, 32, 3)), r"an array must be uint8 .*, got float64"),
    ],
)
def test_what_is_no_picture_is_named(parts, wrong, message):
    with pytest.raises(ValueError, match=message):
        encode_image(parts, wrong)
