"""A caption says what is drawn."""

import dataclasses

import torch

from lib.scenes import Scene, Thing, caption, sample, sample_captions
from lib.scenes.captions import ABOUT_TWO


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_captions_say_what_is_drawn():
    one = Scene((Thing("circle", "red"),), "white")
    assert caption(one) == "a red circle on a white background"
    assert caption(one, 1) == "a red circle"
    assert caption(Scene((Thing("star", "orange", radius=16),), "dotted"), sized=True) == (
        "a large orange star on a dotted background"
    )
    left, right = Thing("ring", "orange", radius=8, x=15), Thing("cross", "blue", radius=8, x=50)
    said = {caption(Scene((left, right), "sky"), k) for k in range(len(ABOUT_TWO))}
    assert "an orange ring left of a blue cross on a sky background" in said
    assert "a blue cross right of an orange ring on a sky background" in said
    lower = dataclasses.replace(right, x=15, y=50)
    upper = dataclasses.replace(left, y=15)
    assert caption(Scene((upper, lower), "sky"), 3) == "an orange ring above a blue cross on a sky background"


def test_captions_of_many_vary_and_name_every_thing():
    many = sample(600, generator())
    said = sample_captions(many, generator())
    assert said == sample_captions(many, generator())
    assert len({text.split()[0] for text in said}) >= 2
    assert len(set(said)) > 300
    for text, i in zip(said, range(len(many)), strict=True):
        assert all(f"{thing.colour} {thing.shape}" in text for thing in many[i].things)
