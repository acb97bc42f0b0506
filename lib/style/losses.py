"""How far pictures are from what they should be, in features: content keeps places, style forgets them.

After Gatys, Ecker and Bethge 2016, "Image style transfer using convolutional neural networks", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lib.checks import wide
from lib.style.features import Extract


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of features [n, c, h, w] at their places: [n].

    `target` [1 or n, c, h, w]. After Gatys et al. 2016, equation 1, which takes half the sum.
    """
    if features.shape[1:] != target.shape[1:]:
        raise ValueError(f"features {list(features.shape)} and their target {list(target.shape)} differ in shape")
    return (wide(features) - target).square().mean((1, 2, 3))


def gram(features: Tensor) -> Tensor:
    """Return which features [n, c, h, w] occur together, wherever that is: [n, c, c].

    Entry i, j is the sum over places of feature i times feature j, over c h w: so it does not grow with the picture,
    and is the same for any order of the places (Gatys et al. 2016, equation 3, which does not divide).
    """
    return products(features) / features[0].numel()


def products(features: Tensor) -> Tensor:
    """Return the sum over places of each feature times each, of features [n, c, h, w]: [n, c, c]."""
    if features.ndim != 4:
        raise ValueError(f"expected features [n, c, h, w], got {list(features.shape)}")
    rows = wide(features).flatten(2)
    return torch.stack([each @ each.mT for each in rows])  # on a CPU up to twice as fast as batched


def style_loss(grams: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of Gram matrices [n, c, c]: [n]; `target` [1 or n, c, c].

    After Gatys et al. 2016, equation 4, with the sizes divided out by `gram`.
    """
    if grams.shape[1:] != target.shape[1:]:
        raise ValueError(f"Gram matrices {list(grams.shape)} and their target {list(target.shape)} differ in shape")
    return (wide(grams) - target).square().mean((1, 2))


def total_variation(pictures: Tensor) -> Tensor:
    """Return the mean squared difference of neighbouring pixels, across and down, in pictures [n, c, h, w]: [n].

    After Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", equation 3, beta 2.
    """
    if pictures.ndim != 4 or min(pictures.shape[2:]) < 2:
        raise ValueError(f"expected pictures [n, c, h, w] of two pixels a side or more, got {list(pictures.shape)}")
    return sum(torch.diff(wide(pictures), dim=axis).square().mean((1, 2, 3)) for axis in (2, 3))


class Target(NamedTuple):
    """What a layer should give, features [1, c, h, w] or a Gram matrix [1, c, c], and what its mean square weighs."""

    value: Tensor
    weight: float


@dataclass(frozen=True)
class Objective:
    """All that pictures [n, 3, h, w] in [0, 1] cost: called, the sum over pictures and terms; `parts` has the terms."""

    extract: Extract
    content: Mapping[str, Target]
    style: Mapping[str, Target]
    variation_weight: float = 0.0

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the loss, a number that gradients flow from."""
        return sum(part.sum() for part in self.parts(pictures).values())

    def parts(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return what content, style and total variation cost, weighted: [n] each."""
        features = self.extract(pictures)
        parts = {}
        if self.content:
            parts["content"] = sum(w * content_loss(features[name], value) for name, (value, w) in self.content.items())
        if self.style:
            parts["style"] = self.style_part({name: gram(features[name]) for name in self.style})
        if self.variation_weight:
            parts["variation"] = self.variation_weight * total_variation(pictures)
        return parts

    def style_part(self, grams: Mapping[str, Tensor]) -> Tensor:
        """Return what Gram matrices [n, c, c] cost, weighted: [n]."""
        return sum(weight * style_loss(grams[name], value) for name, (value, weight) in self.style.items())
