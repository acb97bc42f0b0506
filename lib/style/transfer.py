"""Style transfer: the content of one picture in the style of another, from small to large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.checks import check_choice
from lib.data.images import resize
from lib.style.colours import luminance, match_colours, replace_chrominance
from lib.style.extractors import Extractor
from lib.style.features import Unbounded, receptive_field
from lib.style.objective import Layers, build_objective, layer_weights
from lib.style.optimise import Callback, optimise_image

COLOURS = ("style", "matched", "luminance")
STARTS = ("content", "noise")
NOISE = 0.1


class Transferred(NamedTuple):
    """A picture [1, 3, h, w], and the losses on the way to it, a list for each size."""

    picture: Tensor
    losses: list[list[float]]


def transfer_style(
    extractor: Extractor,
    content: Tensor | None,
    style: Tensor,
    *,
    content_layers: Layers | None = None,
    content_weight: float = 1.0,
    style_layers: Layers | None = None,
    style_weight: float = 10.0,
    variation_weight: float = 0.0,
    relative: bool = True,
    tile: int | None = None,
    sizes: int | Sequence[int] = (128, 256),
    steps: int | Sequence[int] = 100,
    start: str = "content",
    colours: str = "style",
    seed: int = 0,
    method: str = "lbfgs",
    lr: float | None = None,
    history_size: int = 20,
    callback: Callback | None = None,
) -> Transferred:
    """Return `content` in the style of `style`, pictures [1, 3, h, w] in [0, 1]; without content, style's texture.

    It is made at each of `sizes`, the longer side in pixels, in so many `steps` each, from the small one up: a layer
    sees more of a small picture, so large forms are settled where they are cheap (Gatys et al. 2017, "Controlling
    perceptual factors in neural style transfer", section 6). On the way, a style layer whose receptive field is larger
    than the small picture is left out, unless all are. `start` is "content" or "noise", which is faint and drawn from
    `seed`; a texture always starts from noise. `colours` are the style's, or the content's: "matched" gives the style
    picture the content's colours beforehand, "luminance" transfers luminance alone. Layers are the extractor's unless
    given; they, the weights, `relative` and `tile` are as in `build_objective`; `method`, `lr`, `history_size` and
    `callback` as in `optimise_image`, which says what they take of memory.
    """
    check_choice("colours", colours, COLOURS)
    check_choice("start", start, STARTS)
    if content is None and colours != "style":
        raise ValueError(f"colours={colours!r} are those of a content picture, and there is none")
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    steps = (steps,) * len(sizes) if isinstance(steps, int) else tuple(steps)
    if not sizes or len(sizes) != len(steps):
        raise ValueError(f"{len(sizes)} sizes need as many steps, got {len(steps)}")
    if content_layers is None:
        content_layers = extractor.content
    weights = layer_weights("style", style, extractor.style if style_layers is None else style_layers, style_weight)
    picture, losses = None, []
    for size, count in zip(sizes, steps, strict=True):
        resized_content, resized_style = _resized(size, content, style, colours)
        like = resized_style if resized_content is None else resized_content
        smallest = min(*like.shape[2:], *resized_style.shape[2:])
        last = size == sizes[-1]
        fitting = {name: w for name, w in weights.items() if last or _fits(extractor, name, smallest)} or weights
        objective = build_objective(
            extractor.net,
            content=resized_content,
            content_layers=content_layers,
            content_weight=content_weight,
            style=resized_style,
            style_layers=fitting,
            style_weight=sum(fitting.values()),
            variation_weight=variation_weight,
            relative=relative,
            tile=tile,
        )
        if picture is None:
            picture = like if start == "content" and resized_content is not None else _noise(like, seed)
        picture, found = optimise_image(
            objective,
            resize(picture, tuple(like.shape[2:])),
            count,
            method=method,
            lr=lr,
            history_size=history_size,
            callback=callback,
        )
        losses.append(found)
    if colours == "luminance":
        picture = replace_chrominance(picture, resize(content, sizes[-1]))
    return Transferred(picture, losses)


def _fits(extractor: Extractor, layer: str, side: int) -> bool:
    """Tell whether a picture of that side is as large as what a layer looks at."""
    try:
        return receptive_field(extractor.net, layer).size <= side
    except Unbounded:  # what looks at the whole picture, through a norm over it say, does so at every size
        return True


def _resized(size: int, content: Tensor | None, style: Tensor, colours: str) -> tuple[Tensor | None, Tensor]:
    """Return both pictures at one size, in the colours in which they are compared."""
    content, style = (None if picture is None else resize(picture, size) for picture in (content, style))
    if colours == "matched":
        return content, match_colours(style, content)
    return (luminance(content), luminance(style)) if colours == "luminance" else (content, style)


def _noise(like: Tensor, seed: int) -> Tensor:
    """Return grey with noise so faint that what no layer sees of it, and so never changes, does not show."""
    drawn = torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    return 0.5 + NOISE * (drawn - 0.5)
