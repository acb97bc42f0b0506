"""The reader: right on what is drawn, also when blurred and grainy, and silent on what is not a scene."""

import pytest
import torch
import torch.nn.functional as F

from lib import scenes
from lib.scenes import Scene, Thing, render
from lib.scenes.read import read_scene


@pytest.fixture(scope="module")
def drawn():
    many = scenes.sample(60, torch.Generator().manual_seed(11), held=None)
    return many, many.pictures()


def same(scene, found):
    """Whether both have the same things, by shape and colour, and background."""
    if found is None:
        return False
    said = [sorted((t.shape, t.colour) for t in one.things) for one in (scene, found)]
    return said[0] == said[1] and scene.background == found.background


def blurred(pictures):
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    soft = F.conv2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), kernel.expand(3, 1, 3, 3), groups=3)
    return (soft + 0.02 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_it_reads_what_is_drawn(drawn):
    many, pictures = drawn
    assert sum(same(many[i], read_scene(picture)) for i, picture in enumerate(pictures)) >= 59


def test_it_reads_through_blur_and_grain(drawn):
    many, pictures = drawn
    assert sum(same(many[i], read_scene(picture)) for i, picture in enumerate(blurred(pictures))) >= 58


def test_it_finds_places_and_sizes(drawn):
    many, pictures = drawn
    off = []
    for i, picture in enumerate(pictures[:30]):
        found = {(t.shape, t.colour): t for t in read_scene(picture).things}
        for thing in many[i].things:
            other = found[thing.shape, thing.colour]
            off.append(max(abs(thing.x - other.x), abs(thing.y - other.y), abs(thing.radius - other.radius)))
    assert max(off) < 1.0


def test_it_is_silent_on_blends_noise_and_blanks(drawn):
    _, pictures = drawn
    blends = (pictures + pictures.roll(1, 0)) / 2
    assert sum(read_scene(picture) is None for picture in blends) >= 57
    noise = torch.rand(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert all(read_scene(picture) is None for picture in noise)
    for background in scenes.BACKGROUNDS:
        scene = Scene((Thing("circle", "red", radius=8, x=20, y=20),), background)
        (mask,) = scenes.stack([scene]).masks()[:, 0]
        picture = render(scene)[0]
        assert read_scene(picture) is not None
        mirrored = picture.flip(1, 2)  # a corner without the thing covers it, with the same background
        blank = torch.where(mask.bool(), mirrored, picture)
        assert read_scene(blank) is None


def test_a_picture_is_read_alone_and_nothing_else():
    with pytest.raises(ValueError, match=r"picture.* \[3, 64, 64\].*\[1, 3, 64, 64\]"):
        read_scene(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"picture.*NaN"):
        read_scene(torch.full((3, 64, 64), float("nan")))
