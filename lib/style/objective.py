"""What a picture is to become: like one picture in content, like another in style, and smooth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lib.checks import wide
from lib.style.features import Extract, Features, hook_features
from lib.style.losses import Objective, Target, gram
from lib.style.patches import PatchedObjective, Patches

Layers = str | Sequence[str] | Mapping[str, float]


def build_objective(
    model: nn.Module,
    *,
    content: Tensor | None = None,
    content_layers: Layers = (),
    content_weight: float = 1.0,
    style: Tensor | None = None,
    style_layers: Layers = (),
    style_weight: float = 1.0,
    variation_weight: float = 0.0,
    relative: bool = True,
    tile: int | None = None,
) -> Objective:
    """Return the objective of a picture like `content` in some layers of a model, and like `style` in others' style.

    `content` and `style` are pictures [1, 3, h, w] in [0, 1], of any two sizes. The layers of each share its weight
    equally, or in the proportions that a mapping gives. With `relative` a layer's squared differences count against the
    mean square of its target, so that 1 is as far as a picture without features is, and weights mean the same for every
    network; without it they count as they are. `variation_weight` weighs the total variation. With `tile` pictures
    are looked at in tiles of so many pixels a side, for features larger than memory. Raises ValueError
    for a picture without layers, and where there is nothing to be like.
    """
    content_weights = layer_weights("content", content, content_layers, content_weight)
    style_weights = layer_weights("style", style, style_layers, style_weight)
    layers = list(dict.fromkeys([*content_weights, *style_weights]))
    if not layers:
        raise ValueError("an objective needs a picture to be like, in its content or in its style")
    patches = None if tile is None else Patches(model, layers, tile)
    extract = hook_features(model, layers) if patches is None else patches.extract
    measure = partial(_measure, extract) if patches is None else patches.measure
    values = measure(content, content_weights, ())[0] if content_weights else {}
    grams = measure(style, (), style_weights)[1] if style_weights else {}
    wanted = (_targets(values, content_weights, relative), _targets(grams, style_weights, relative), variation_weight)
    return Objective(extract, *wanted) if patches is None else PatchedObjective(extract, *wanted, patches)


@torch.no_grad()
def _measure(
    extract: Extract, picture: Tensor, content: Collection[str], style: Collection[str]
) -> tuple[Features, Features]:
    """Return the features of some layers and the Gram matrices of some, as `Patches.measure` does."""
    found = extract(picture)
    return {name: found[name] for name in content}, {name: gram(found[name]) for name in style}


def layer_weights(what: str, picture: Tensor | None, layers: Layers, weight: float) -> dict[str, float]:
    """Return the layers in which a picture is to be compared, and how much of `weight` is each one's."""
    if picture is None:
        return {}
    if isinstance(layers, str):
        layers = (layers,)
    if not layers:
        raise ValueError(f"a {what} picture needs {what}_layers to be compared in")
    proportions = layers if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    total = sum(proportions.values())
    if min(proportions.values()) < 0 or not total > 0:
        raise ValueError(f"the proportions of {what}_layers must be positive, got {dict(proportions)}")
    return {name: weight * value / total for name, value in proportions.items()}


def _targets(values: Features, weights: Mapping[str, float], relative: bool) -> dict[str, Target]:
    """Return what layers should give, and what their mean squared differences weigh."""
    return {
        name: Target(values[name], weight / (wide(values[name]).square().mean().item() or 1.0) if relative else weight)
        for name, weight in weights.items()
    }
