"""Style transfer: the content of one picture in the style of another, from small to large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lib.names import known
from lib.pictures import resize
from lib.style.colours import grey, match_colours, with_colours_of
from lib.style.extractors import Extractor
from lib.style.objective import objective
from lib.style.optimise import optimise_image

COLOURS = ("style", "matched", "brightness")
STARTS = ("content", "noise")


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
    steps: int = 100,
    style_weight: float = 10.0,
    start: str = "content",
    colours: str = "style",
    seed: int = 0,
    about: dict[str, Any] | None = None,
    **optimiser: Any,
) -> Transferred:
    """Return `content` in the style of `style`, pictures [1, 3, h, w] in [0, 1]; without content, style's texture.

    It is made at each of `sizes`, the longer side in pixels, in so many `steps` each, from the small one up: a layer
    sees more of a small picture, so large forms are settled where they are cheap (Gatys et al. 2017, "Controlling
    perceptual factors in neural style transfer", section 6). `start` is "content" or "noise", drawn from `seed`; a
    texture starts from noise. `colours` are the style's, or the content's: "matched" gives the style picture the
    content's colours beforehand, "brightness" transfers brightness alone. `about` goes to `objective` (layers, weights,
    smoothness, tile), and what else is given to `optimise_image` (method, rate, history, watch).
    """
    known("colours", colours, COLOURS)
    known("start", start, STARTS)
    if content is None and colours != "style":
        raise ValueError(f"colours={colours!r} are those of a content picture, and there is none")
    about = {"content_layers": extractor.content, "style_layers": extractor.style} | (about or {})
    picture, losses = None, []
    for size in (sizes,) if isinstance(sizes, int) else sizes:
        subject = None if content is None else resize(content, size)
        manner = _coloured(resize(style, size), subject, colours)
        seen = grey(subject) if colours == "brightness" else subject
        goal = objective(extractor.net, content=seen, style=manner, style_weight=style_weight, **about)
        like = manner if seen is None else seen
        if picture is None:
            picture = like if start == "content" and seen is not None else _noise(like, seed)
        picture = resize(picture, tuple(like.shape[2:]))
        picture, found = optimise_image(goal, picture, steps, **optimiser)
        losses.append(found)
    return Transferred(with_colours_of(picture, subject) if colours == "brightness" else picture, losses)


def _coloured(style: Tensor, content: Tensor | None, colours: str) -> Tensor:
    if colours == "matched":
        return match_colours(style, content)
    return grey(style) if colours == "brightness" else style


def _noise(like: Tensor, seed: int) -> Tensor:
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
