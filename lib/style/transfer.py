"""Style transfer: the content of one picture in the style of another, from small to large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lib.checks import known
from lib.data.images import resize
from lib.style.colours import grey, match_colours, with_colours_of
from lib.style.extractors import Extractor
from lib.style.features import receptive_field
from lib.style.objective import objective, shares
from lib.style.optimise import optimise_image

COLOURS = ("style", "matched", "brightness")
STARTS = ("content", "noise")
NOISE = 0.1


class Transferred(NamedTuple):
    """A picture [1, 3, h, w], and the losses on the way to it, a list for each size."""

    picture: Tensor
    losses: list[list[float]]


def transfer(
    extractor: Extractor,
    style: Tensor,
    content: Tensor | None = None,
    *,
    sizes: int | Sequence[int] = (128, 256),
    steps: int | Sequence[int] = 100,
    style_weight: float = 10.0,
    start: str = "content",
    colours: str = "style",
    seed: int = 0,
    about: Mapping[str, Any] = MappingProxyType({}),
    **optimiser: Any,
) -> Transferred:
    """Return `content` in the style of `style`, pictures [1, 3, h, w] in [0, 1]; without content, style's texture.

    It is made at each of `sizes`, the longer side in pixels, in so many `steps` each, from the small one up: a layer
    sees more of a small picture, so large forms are settled where they are cheap (Gatys et al. 2017, "Controlling
    perceptual factors in neural style transfer", section 6). On the way, a style layer that looks at more than the
    whole small picture is left out. `start` is "content" or "noise", which is faint and drawn from `seed`; a texture
    always starts from noise. `colours` are the style's, or the content's: "matched" gives the style picture the
    content's colours beforehand, "brightness" transfers brightness alone. `about` goes to `objective` (layers,
    smoothness, tile, ...), and what else is given to `optimise_image` (method, rate, history, watch).
    """
    known("colours", colours, COLOURS)
    known("start", start, STARTS)
    if content is None and colours != "style":
        raise ValueError(f"colours={colours!r} are those of a content picture, and there is none")
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    steps = (steps,) * len(sizes) if isinstance(steps, int) else tuple(steps)
    if not sizes or len(sizes) != len(steps):
        raise ValueError(f"{len(sizes)} sizes need as many steps, got {len(steps)}")
    about = {"content_layers": extractor.content, "style_layers": extractor.style} | dict(about)
    layers = shares("style", style, about.pop("style_layers"), style_weight)
    need = {name: receptive_field(extractor.net, name).size for name in layers}
    picture, losses = None, []
    for size, count in zip(sizes, steps, strict=True):
        subject, manner = _at(size, content, style, colours)
        like = manner if subject is None else subject
        room = min(*like.shape[2:], *manner.shape[2:])
        fitting = {name: share for name, share in layers.items() if need[name] <= room or size == sizes[-1]}
        weights = {"style_layers": fitting, "style_weight": sum(fitting.values())}
        goal = objective(extractor.net, content=subject, style=manner, **weights, **about)
        if picture is None:
            picture = like if start == "content" and subject is not None else _noise(like, seed)
        picture, found = optimise_image(goal, resize(picture, tuple(like.shape[2:])), count, **optimiser)
        losses.append(found)
    if colours == "brightness":
        picture = with_colours_of(picture, resize(content, sizes[-1]))
    return Transferred(picture, losses)


def _at(size: int, content: Tensor | None, style: Tensor, colours: str) -> tuple[Tensor | None, Tensor]:
    """Return both pictures at one size, in the colours in which they are compared."""
    content, style = (None if picture is None else resize(picture, size) for picture in (content, style))
    if colours == "matched":
        return content, match_colours(style, content)
    return (grey(content), grey(style)) if colours == "brightness" else (content, style)


def _noise(like: Tensor, seed: int) -> Tensor:
    """Return grey with noise so faint that what no layer sees of it, and so never changes, does not show."""
    drawn = torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    return 0.5 + NOISE * (drawn - 0.5)
