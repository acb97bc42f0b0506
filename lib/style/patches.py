"""Pictures whose features exceed memory: loss and gradient tile by tile, equal to those of the picture in one piece.

A feature depends on its receptive field alone, so a tile with enough of its surroundings gives the features that the
whole gives there. The content loss is a sum over places, and tiles add up. The style loss is none, but the Gram
matrices in it are: a first pass adds them up, then the gradient of the loss with respect to them is known, and a second
pass takes it back through each tile.

What tiles bound is the features. The picture stays whole, with its gradient and what the optimiser keeps of its size:
L-BFGS with 20 pairs keeps 2 GB at 2048x2048, Adam 0.1 GB; `history_size` or `method` of `optimise_image` bound that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.checks import wide
from lib.style.features import Features, hook_features, receptive_field
from lib.style.losses import Objective, products, total_variation


class Span(NamedTuple):
    """A tile with its surroundings along one side of a picture: what to cut, and which features of a layer are its own.

    `inside` counts them from where it is cut, `places` from the edge of the picture.
    """

    cut: slice
    inside: dict[str, slice]
    places: dict[str, slice]


class Piece(NamedTuple):
    """A tile with its surroundings: its span down and its span across."""

    down: Span
    across: Span

    @property
    def cut(self) -> tuple[slice, slice]:
        """Where it is in the picture."""
        return self.down.cut, self.across.cut

    def inside(self, layer: str) -> tuple[slice, slice]:
        """Which features of a layer, of those that the piece gives, are the tile's own."""
        return self.down.inside[layer], self.across.inside[layer]

    def places(self, layer: str) -> tuple[slice, slice]:
        """Where these are among the features of the whole picture."""
        return self.down.places[layer], self.across.places[layer]


class Patches:
    """Layers of a network that look at a picture [1, 3, h, w] in tiles, `tile` pixels a side and what is around them.

    `tile` is rounded up to a multiple of the layers' largest stride.
    """

    def __init__(self, model: nn.Module, layers: Collection[str], tile: int) -> None:
        if tile < 1:
            raise ValueError(f"a tile needs at least one pixel a side, got {tile}")
        self.extract = hook_features(model, tuple(layers))
        self.fields = {name: receptive_field(model, name) for name in layers}
        self.stride = max(field.stride for field in self.fields.values())
        self.tile = -(-tile // self.stride) * self.stride
        self.before, self.after, self.smallest = (
            max(getattr(field, name) for field in self.fields.values()) for name in ("before", "after", "size")
        )

    def grid(self, picture: Tensor) -> list[list[Piece]]:
        """Cut a picture [1, 3, h, w] into rows of pieces; raises ValueError for several pictures."""
        if picture.ndim != 4 or len(picture) != 1:
            raise ValueError(f"patches are of one picture [1, 3, h, w], got {list(picture.shape)}")
        height, width = picture.shape[2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"a picture of {height}x{width} is smaller than the receptive field of {', '.join(self.fields)}, "
                f"{self.smallest}x{self.smallest}: take it in one piece, without `tile`, or take layers less deep"
            )
        across = list(self._spans(width))
        return [[Piece(down, along) for along in across] for down in self._spans(height)]

    def _spans(self, side: int) -> Iterator[Span]:
        """A piece starts where all layers have a row, and is no smaller than the largest of their receptive fields."""
        for start in range(0, side, self.tile):
            stop = start + self.tile if start + self.tile < side else None  # the last tile has all to the end
            high = side if stop is None else min(side, max(stop + self.after, self.smallest))
            low = max(0, min(start - self.before, high - self.smallest) // self.stride * self.stride)
            inside, places = (
                {name: _rows(start - edge, stop and stop - edge, field.stride) for name, field in self.fields.items()}
                for edge in (low, 0)
            )
            yield Span(slice(low, high), inside, places)

    def own(self, cut: Tensor, piece: Piece) -> Features:
        """Return, of what was cut out for a piece, the features of its tile: {layer: [1, c, h', w']}.

        Of a deep layer a narrow tile at the edge may have none.
        """
        found = self.extract(cut)
        return {name: found[name][..., *piece.inside(name)] for name in self.fields}

    def measure(self, picture: Tensor, content: Collection[str], style: Collection[str]) -> tuple[Features, Features]:
        """Return the features of some layers and the Gram matrices of some, as the whole picture has them."""
        sums, rows = GramSums(style), []
        with torch.no_grad():
            for row in self.grid(picture):
                rows.append([])
                for piece in row:
                    own = self.own(picture[..., *piece.cut], piece)
                    sums.add(own)
                    rows[-1].append({name: own[name].clone() for name in content})
        values = {name: torch.cat([torch.cat([own[name] for own in row], 3) for row in rows], 2) for name in content}
        return values, sums.grams()


class GramSums:
    """Gram matrices of some layers, added up tile by tile."""

    def __init__(self, layers: Collection[str]) -> None:
        self._products: dict[str, Tensor | float] = dict.fromkeys(layers, 0.0)
        self.counts = dict.fromkeys(layers, 0)

    def add(self, own: Features) -> None:
        """Add a tile's own features."""
        for name in self.counts:
            self._products[name] = self._products[name] + products(own[name])
            self.counts[name] += own[name].numel()

    def grams(self) -> Features:
        """Return the Gram matrices of what was added: [1, c, c] each."""
        return {name: self._products[name] / count for name, count in self.counts.items()}


@dataclass(frozen=True)
class PatchedObjective(Objective):
    """An `Objective` of one picture [1, 3, h, w] that never holds more features than those of a tile.

    Its gradient is worked out together with the loss, in two passes over the tiles; `parts` takes one pass and gives no
    gradient.
    """

    patches: Patches | None = None

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the loss, a number that gradients flow from."""
        return _Loss.apply(pictures, self)

    def parts(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return what content, style and total variation cost, weighted: [1] each, without a gradient."""
        return self._first_pass(pictures)[0]

    def with_gradient(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, a number, and its gradient [1, 3, h, w]."""
        parts, sums = self._first_pass(picture)
        by_product = self._product_gradients(sums)
        gradient = self._variation_gradient(picture)
        for piece in self._pieces(picture):
            cut = picture[..., *piece.cut].detach().clone().requires_grad_()
            with torch.enable_grad():
                own = self.patches.own(cut, piece)
                cost = self._content_part(own, piece) + sum(
                    (by_product[name] * products(own[name])).sum() for name in by_product
                )
            gradient[..., *piece.cut] += torch.autograd.grad(cost, cut)[0]
        return sum(part.sum() for part in parts.values()), gradient

    @torch.no_grad()
    def _first_pass(self, picture: Tensor) -> tuple[dict[str, Tensor], GramSums]:
        sums, content = GramSums(self.style), wide(picture).new_zeros(1)
        for piece in self._pieces(picture):
            own = self.patches.own(picture[..., *piece.cut], piece)
            sums.add(own)
            content += self._content_part(own, piece)
        parts = {"content": content} if self.content else {}
        if self.style:
            parts["style"] = self.style_part(sums.grams())
        if self.variation_weight:
            parts["variation"] = self.variation_weight * total_variation(picture)
        return parts, sums

    def _pieces(self, picture: Tensor) -> Iterator[Piece]:
        return (piece for row in self.patches.grid(picture) for piece in row)

    def _content_part(self, own: Features, piece: Piece) -> Tensor:
        """Return a tile's share of the content loss: [1]."""
        cost = wide(next(iter(own.values()))).new_zeros(1)
        for name, (value, weight) in self.content.items():
            target = value[..., *piece.places(name)]
            if own[name].shape != target.shape:
                raise ValueError("the picture and the content that it is to have differ in size")
            cost = cost + weight * (wide(own[name]) - target).square().sum() / value.numel()
        return cost

    def _product_gradients(self, sums: GramSums) -> Features:
        """Return the gradient of the loss with respect to the sums of products: [1, c, c] each."""
        if not self.style:
            return {}
        grams = {name: value.requires_grad_() for name, value in sums.grams().items()}
        with torch.enable_grad():
            gradients = torch.autograd.grad(self.style_part(grams).sum(), list(grams.values()))
        return {name: value / sums.counts[name] for name, value in zip(grams, gradients, strict=True)}

    def _variation_gradient(self, picture: Tensor) -> Tensor:
        if not self.variation_weight:
            return torch.zeros_like(picture)
        picture = picture.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.variation_weight * total_variation(picture).sum(), picture)[0]


class _Loss(torch.autograd.Function):
    """The loss as autograd sees it: the gradient is there before it is asked for."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, objective: PatchedObjective) -> Tensor:
        loss, gradient = objective.with_gradient(picture)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output * ctx.saved_tensors[0], None


def _rows(start: int, stop: int | None, stride: int) -> slice:
    return slice(start // stride, stop and stop // stride)
