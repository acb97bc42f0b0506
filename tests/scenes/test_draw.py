"""Drawn scenes: what is asked for is what is drawn, nothing of what is held out, whatever the batch."""

import dataclasses

import pytest
import torch

from lib.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene, Scenes, Thing, held_out, render, sample, stack
from lib.scenes.draw import PLAIN


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many():
    return sample(600, generator())


def test_there_is_enough_to_say():
    assert len(COLOURS) >= 8
    assert {"red", "green", "blue", "yellow"} <= COLOURS.keys()
    assert len(SHAPES) >= 6
    assert {"circle", "square", "triangle", "star"} <= set(SHAPES)
    assert len(BACKGROUNDS) >= 8
    assert {"white", "black"} <= set(BACKGROUNDS)
    assert len(set(BACKGROUNDS) - PLAIN.keys()) >= 3


def test_a_circle_has_its_colour_its_place_and_its_area():
    thing = Thing("circle", "red", radius=10, x=20, y=40)
    image = render(Scene((thing,), "white"))[0]
    assert image.shape == (3, 64, 64)
    assert torch.allclose(image[:, 40, 20] * 255, torch.tensor(COLOURS["red"]).float())
    assert torch.equal(image[:, 5, 60], torch.ones(3))
    mask = stack([Scene((thing,), "white")]).masks()[0]
    assert mask[0].sum() == pytest.approx(torch.pi * 100, rel=0.01)
    assert not mask[1].any()
    centre = torch.arange(64) + 0.5
    assert (mask[0].sum(0) @ centre / mask[0].sum()).item() == pytest.approx(20, abs=0.05)
    assert (mask[0].sum(1) @ centre / mask[0].sum()).item() == pytest.approx(40, abs=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_soft_and_a_shape_twice_as_large_has_four_times_the_area(shape):
    small, large = (stack([Scene((Thing(shape, "blue", radius=r),))]).masks()[0, 0] for r in (8, 16))
    assert large.sum() / small.sum() == pytest.approx(4, rel=0.06)
    assert ((large > 0.05) & (large < 0.95)).sum() > 8
    assert large.sum() > 100


def test_shapes_are_told_apart_by_their_masks():
    masks = stack([Scene((Thing(shape, "blue", radius=12),)) for shape in SHAPES]).masks()[:, 0]
    apart = (masks[:, None] - masks).abs().sum((2, 3)) / masks.sum((1, 2)).clamp(min=1)
    assert (apart + torch.eye(len(SHAPES)) > 0.15).all()


def test_the_second_thing_lies_over_the_first():
    below, above = Thing("square", "red", radius=14), Thing("circle", "blue", radius=7)
    image = render(Scene((below, above)))[0]
    assert torch.allclose(image[:, 32, 32] * 255, torch.tensor(COLOURS["blue"]).float())


def test_a_scene_is_drawn_alike_alone_and_among_others(many):
    pictures = many.pictures()
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    for i in (0, 7, 99):
        assert torch.allclose(render(many[i])[0], pictures[i], atol=1e-5)
        assert torch.allclose(many.rows(slice(i, i + 1)).pictures()[0], pictures[i])


def test_scenes_are_the_same_for_a_seed_and_half_have_two_things(many):
    again = sample(600, generator())
    assert all(torch.equal(getattr(many, f.name), getattr(again, f.name)) for f in dataclasses.fields(Scenes))
    assert 0.42 < many.two.float().mean() < 0.58
    assert sample(20, generator(), two=True).two.all()
    assert not sample(20, generator(), two=False).two.any()


def test_nothing_held_out_is_drawn_unless_asked_for(many):
    out = held_out(many.colour, many.shape, many.background[:, None])
    assert not out[:, 0].any()
    assert not (out[:, 1] & many.two).any()
    asked = sample(50, generator(), held=True)
    out = held_out(asked.colour, asked.shape, asked.background[:, None])
    assert out[:, 0].all()
    assert out[:, 1][asked.two].all()


def test_a_fifth_is_held_out_and_each_pair_is_seen():
    triples = torch.cartesian_prod(*(torch.arange(len(part)) for part in (COLOURS, SHAPES, BACKGROUNDS)))
    out = held_out(*triples.T).reshape(len(COLOURS), len(SHAPES), len(BACKGROUNDS))
    assert out.float().mean() == pytest.approx(0.2, abs=0.01)
    for axis in range(3):
        assert not out.all(dim=axis).any()


def test_things_stay_in_the_picture_and_apart(many):
    covered = many.masks()
    assert (covered.sum((2, 3)) > 20).logical_or(~torch.stack([torch.ones_like(many.two), many.two], 1)).all()
    edge = torch.cat([covered[:, :, 0], covered[:, :, -1], covered[:, :, :, 0], covered[:, :, :, -1]], dim=2)
    assert not edge.any()
    assert (covered[:, 0] * covered[:, 1]).max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thing("cirle", "red"), "shape 'cirle'; did you mean 'circle'"),
        (lambda: Thing("circle", "rad"), "colour 'rad'; did you mean 'red'"),
        (lambda: Thing("circle", "red", radius=50), "radius.*3.*32.*50"),
        (lambda: Thing("circle", "red", x=70), r"x.*y.*0.*64.*70 and 32\.0"),
        (lambda: Scene((Thing("circle", "red"),), "wite"), "background 'wite'; did you mean 'white'"),
        (lambda: Scene(()), "things.* 0"),
        (lambda: stack([]), "scene"),
        (lambda: sample(0, generator()), "scene.* 0"),
    ],
)
def test_what_cannot_be_drawn_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
