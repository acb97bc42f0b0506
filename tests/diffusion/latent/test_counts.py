"""What does not match is counted and named: prompts, negative prompts, images, masks, latents, seeds and steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.diffusion.latent import diffedit, difference, image_to_image, inpaint, invert, text_to_image

TWO, THREE = ["a red circle", "a blue star"], ["a red circle", "a blue star", "a ring"]
FULL = torch.ones(32, 32)
pytestmark = pytest.mark.filterwarnings("ignore:the model never saw")


def image(n=1, value=None):
    if value is not None:
        return torch.full((n, 3, 32, 32), value)
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: text_to_image(p, THREE, negative=TWO), "3 prompts, 2 negative prompts"),
        (lambda p: text_to_image(p, TWO, latents=torch.zeros(3, 4, 16, 16)), "2 prompts, .* 3 latents"),
        (lambda p: text_to_image(p, TWO, latents=torch.zeros(4, 16, 16)), r"latents.*\[n, 4, h/2, w/2\].*\[4, 16, 1"),
        (lambda p: text_to_image(p, TWO, latents=np.zeros((2, 4, 16, 16))), r"latents.*\[n, 4, h/2, w/2\].*ndarray"),
        (lambda p: image_to_image(p, image(2), THREE), "2 images, 3 prompts, 1 negative prompts"),
        (lambda p: image_to_image(p, image(3), TWO[0], negative=TWO), "3 images, 1 prompts, 2 negative prompts"),
        (lambda p: inpaint(p, image(2), torch.ones(3, 32, 32), TWO), "mask.* 3 for 2 images"),
        (lambda p: inpaint(p, image(2), FULL, THREE), "2 images, 3 prompts"),
        (lambda p: invert(p, image(2), THREE), "2 images, 3 prompts"),
        (lambda p: diffedit(p, image(2), THREE, "b"), "2 images, 3 sources, 1 targets"),
        (lambda p: diffedit(p, image(), TWO, THREE), "1 images, 2 sources, 3 targets"),
        (lambda p: diffedit(p, image(2), "a", "b", mask=torch.ones(3, 32, 32)), "mask.* 3 for 2 images"),
        (lambda p: difference(p, image(2), "a", THREE), "2 images, 1 sources, 3 targets"),
        (lambda p: text_to_image(p, None), "prompts.*None"),
        (lambda p: text_to_image(p, [1, 2]), r"prompts.*\[1, 2\]"),
        (lambda p: text_to_image(p, TWO, seed=-1), "seed.*0.*-1"),
        (lambda p: text_to_image(p, TWO, steps=1000), "1000 steps.*leading.*offset 1.*1000"),
        (lambda p: text_to_image(p, TWO, steps=0), "steps.*1.*1000.* 0"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_named(parts, call, message):
    with pytest.raises(ValueError, match=message):
        call(parts)


def test_one_serves_all(parts):
    drawn = text_to_image(parts, "a star", negative=TWO, latents=torch.zeros(2, 4, 16, 16), steps=2)
    assert drawn.shape == (2, 3, 32, 32)
    assert image_to_image(parts, image(), TWO, steps=2).shape == (2, 3, 32, 32)
    assert inpaint(parts, image(), FULL, TWO, steps=2).shape == (2, 3, 32, 32)
    assert diffedit(parts, image(), "a star", TWO, steps=2, draws=1).images.shape == (2, 3, 32, 32)


def test_masks_of_all_kinds_are_one(parts):
    half = np.zeros((32, 32), dtype=np.uint8)
    half[:, :16] = 1
    kinds = [torch.from_numpy(half), half, half.astype(bool), Image.fromarray(half * 255), Image.fromarray(half > 0)]
    drawn = [inpaint(parts, image(), mask, "a star", steps=2) for mask in kinds]
    assert all(torch.equal(drawn[0], other) for other in drawn[1:])
    with pytest.raises(ValueError, match=r"mask.*0 or 1.*0 to 0\.5"):
        inpaint(parts, image(), Image.fromarray(half * 128), "a star", steps=2)


def test_at_strength_1_nothing_of_the_image_decides_what_comes(parts):
    """Stable Diffusion's schedule ends before pure noise, so an image's brightness would shine through."""
    white, black = (inpaint(parts, image(value=value), FULL, "a star", steps=4) for value in (1.0, 0.0))
    assert torch.equal(white, black)
    white, black = (image_to_image(parts, image(value=value), "a star", strength=1.0, steps=4) for value in (1.0, 0.0))
    assert torch.equal(white, black)
    assert torch.equal(white, text_to_image(parts, "a star", steps=4))
    white, black = (image_to_image(parts, image(value=value), "a star", strength=0.9, steps=10) for value in (1.0, 0.0))
    assert not torch.equal(white, black)
