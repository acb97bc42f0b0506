"""DiffEdit's map against a loop, and the mask that it makes."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.diffusion.latent import (
    close_mask,
    difference,
    edit_mask,
    encode_image,
    encode_prompt,
    normalise_difference,
    prepare_mask,
    threshold_mask,
)
from lib.diffusion.samplers import make_generators, randn_like

SOURCE, TARGET = "a red circle on a white background", "a blue circle on a white background"


def image(n=1, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_the_difference_is_that_of_a_loop(parts):
    images = image(2)
    found = difference(parts, images, SOURCE, TARGET, strength=0.4, draws=3, seed=7)
    z = encode_image(parts, images)
    t = torch.tensor([399])
    generators = make_generators(7, 2)
    total = torch.zeros(2, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            noise = randn_like(z, generators)
            for i in range(2):
                x = parts.schedule.add_noise(z[i : i + 1], noise[i : i + 1], t)
                said = [parts.unet(x, t, encode_prompt(parts, text)).sample.double() for text in (SOURCE, TARGET)]
                total[i] += (said[0] - said[1]).abs().mean(dim=1)[0]
    assert found.shape == (2, 16, 16)
    assert torch.allclose(found.double(), total / 3, atol=1e-5)
    assert torch.allclose(
        difference(parts, images[1:], SOURCE, TARGET, strength=0.4, draws=3, seed=7, first=1)[0], found[1], atol=1e-5
    )
    assert difference(parts, images, SOURCE, SOURCE, draws=1).max() == 0


def test_differences_become_a_mask():
    values = torch.tensor([[[1.0, 1.0], [2.0, 16.0]]])  # two thirds of the way, by rank, is 2
    assert torch.allclose(normalise_difference(values, 2 / 3), torch.tensor([[[0.5, 0.5], [1.0, 1.0]]]))
    assert torch.allclose(normalise_difference(values, 1.0), values / 16)
    assert torch.equal(threshold_mask(normalise_difference(values, 1.0), 0.1), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    assert not normalise_difference(torch.zeros(1, 2, 2)).any()


def test_closing_fills_holes_and_nothing_else():
    mask = torch.zeros(2, 9, 9)
    mask[0, 1:6, 1:6] = 1
    mask[1, :, :5] = 1
    whole = mask.clone()
    mask[0, 3, 3] = 0
    mask[1, 4, 0] = 0
    assert torch.equal(close_mask(mask), whole)
    assert torch.equal(close_mask(close_mask(mask)), close_mask(mask))
    for values in (torch.zeros(1, 5, 5), torch.ones(1, 5, 5)):
        assert torch.equal(close_mask(values), values)


def test_a_place_may_change_if_any_of_its_pixels_may(parts):
    mask = torch.zeros(32, 32)
    mask[5, 9] = 1
    on = prepare_mask(parts, mask, torch.zeros(2, 4, 16, 16))
    assert on.shape == (2, 1, 16, 16)
    assert on.sum() == 2
    assert on[1, 0, 2, 4] == 1


def palette(mask):
    """The mask as indices of a palette in which 0 is white and 1 black."""
    image = Image.fromarray((mask == 0).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


def see_through(mask):
    return Image.fromarray(np.stack([mask * 0] * 3 + [(1 - mask) * 255], -1).astype(np.uint8))


def lying(mask):
    """The mask as a camera stores it that was held upright."""
    image = Image.fromarray(np.ascontiguousarray(np.rot90(mask) * 255).astype(np.uint8))
    image.getexif()[0x0112] = 6
    return image


KINDS = {
    "1": lambda mask: Image.fromarray(mask > 0),
    "L": lambda mask: Image.fromarray((mask * 255).astype(np.uint8)),
    "P": palette,
    "RGB": lambda mask: Image.fromarray((mask * 255).astype(np.uint8)).convert("RGB"),
    "black, with holes": see_through,
    "I;16": lambda mask: Image.fromarray((mask * 65535).astype(np.uint16)),
    "F": lambda mask: Image.fromarray(mask.astype(np.float32)),
    "EXIF": lying,
}


@pytest.mark.parametrize("kind", KINDS)
def test_white_may_change_in_every_mode_of_pillow(parts, kind):
    mask = np.tri(32)
    z = torch.zeros(1, 4, 16, 16)
    assert torch.equal(prepare_mask(parts, KINDS[kind](mask), z), prepare_mask(parts, torch.from_numpy(mask), z))


def test_a_mask_in_colour_is_refused(parts):
    with pytest.raises(ValueError, match=r"mask.*0 or 1.*0\.333"):
        prepare_mask(parts, Image.new("RGB", (32, 32), (255, 0, 0)), torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: edit_mask(p, image(), "a", "b", threshold=1.0), r"threshold.*0.*1.*1\.0"),
        (lambda p: edit_mask(p, image(), "a", "b", quantile=0), "quantile.*0.*1.* 0"),
        (lambda p: difference(p, image(), "a", "b", draws=0), "draws.*1.* 0"),
    ],
)
def test_settings_out_of_range_are_named(parts, call, message):
    with pytest.raises(ValueError, match=message):
        call(parts)
