"""Drawn pictures with true masks and attributes: one or two coloured shapes on a background.

Many are held as one `Scenes`, a row of tensors, and rendered together on any device; one is a `Scene`, to be read and
changed by hand. Shapes are signed distances, negative inside, so edges are anti-aliased and masks exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lib.checks import check_choice

SIZE = 64  # pixels, each way
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (36, 84, 214),
    "yellow": (244, 211, 40),
    "orange": (245, 128, 20),
    "purple": (124, 46, 158),
    "pink": (244, 142, 190),
    "brown": (121, 76, 42),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
BACKGROUNDS = ("white", "black", "grey", "sand", "sky", "striped", "dotted", "chequered")
PLAIN = {"white": 255, "black": 0, "grey": 128, "sand": (222, 206, 170), "sky": (176, 214, 236)}
RADII_OF_ONE, RADII_OF_TWO = (7.0, 18.0), (7.0, 13.0)  # the range of radii of a shape alone, and of each of two


@dataclass(frozen=True)
class Thing:
    """A shape of a colour: its radius, and where its centre is, in pixels from the top left."""

    shape: str
    colour: str
    radius: float = 12.0
    x: float = 32.0
    y: float = 32.0

    def __post_init__(self) -> None:
        check_choice("shape", self.shape, SHAPES)
        check_choice("colour", self.colour, COLOURS)
        if not 3 <= self.radius <= SIZE / 2:
            raise ValueError(f"radius must be from 3 to {SIZE // 2} pixels, got {self.radius}")
        if not (0 <= self.x <= SIZE and 0 <= self.y <= SIZE):
            raise ValueError(f"x and y must be from 0 to {SIZE} pixels, got {self.x} and {self.y}")


@dataclass(frozen=True)
class Scene:
    """One or two things on a background; the second lies over the first."""

    things: tuple[Thing, ...]
    background: str = "white"

    def __post_init__(self) -> None:
        check_choice("background", self.background, BACKGROUNDS)
        if not 1 <= len(self.things) <= 2:
            raise ValueError(f"a scene has one or two things, got {len(self.things)}")


@dataclass(frozen=True)
class Scenes:
    """Many scenes: numbers of shapes and colours int64 [n, 2], radii and places float32 [n, 2], backgrounds [n].

    `two` [n] tells whether there is a second thing; where not, its numbers mean nothing.
    """

    shape: Tensor
    colour: Tensor
    radius: Tensor
    x: Tensor
    y: Tensor
    background: Tensor
    two: Tensor

    def __len__(self) -> int:
        return len(self.background)

    def __getitem__(self, i: int) -> Scene:
        things = []
        for k in range(1 + int(self.two[i])):
            radius, x, y = (part[i, k].item() for part in (self.radius, self.x, self.y))
            things.append(Thing(SHAPES[self.shape[i, k]], list(COLOURS)[self.colour[i, k]], radius, x, y))
        return Scene(tuple(things), BACKGROUNDS[self.background[i]])

    def rows(self, index: Tensor | slice) -> Scenes:
        """Return some of them."""
        return Scenes(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> Scenes:
        """Return them on a device."""
        return Scenes(*(getattr(self, field.name).to(device) for field in fields(self)))

    def pictures(self) -> Tensor:
        """Draw them: [n, 3, 64, 64] in [0, 1]."""
        images = _backgrounds(self.background.device)[self.background]
        colours = torch.tensor(list(COLOURS.values()), device=images.device) / 255
        for k, cover in enumerate(self.masks().unbind(1)):
            images = torch.lerp(images, colours[self.colour[:, k]][:, :, None, None], cover[:, None])
        return images

    def masks(self) -> Tensor:
        """Return how much of each pixel each thing covers: [n, 2, 64, 64] in [0, 1], 0 for a second that is not."""
        centre = torch.arange(SIZE, device=self.x.device) + 0.5
        across = ((centre[None, None, None, :] - self.x[:, :, None, None]) / self.radius[:, :, None, None]).expand(
            -1, -1, SIZE, -1
        )
        down = ((centre[None, None, :, None] - self.y[:, :, None, None]) / self.radius[:, :, None, None]).expand(
            -1, -1, -1, SIZE
        )
        inside = torch.zeros_like(across)
        for number, name in enumerate(SHAPES):
            chosen = self.shape == number
            inside[chosen] = DISTANCES[name](across[chosen], down[chosen])
        covered = (0.5 - inside * self.radius[:, :, None, None]).clamp(0, 1)
        there = torch.stack([torch.ones_like(self.two), self.two], dim=1)
        return covered * there[:, :, None, None]


def stack(scenes: Sequence[Scene]) -> Scenes:
    """Stack scenes into one row of tensors."""
    if not scenes:
        raise ValueError("at least one scene is needed")
    both = [[scene.things[0], scene.things[-1]] for scene in scenes]
    colours = list(COLOURS)
    return Scenes(
        torch.tensor([[SHAPES.index(thing.shape) for thing in pair] for pair in both]),
        torch.tensor([[colours.index(thing.colour) for thing in pair] for pair in both]),
        *(
            torch.tensor([[float(getattr(thing, name)) for thing in pair] for pair in both])
            for name in ("radius", "x", "y")
        ),
        torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes]),
        torch.tensor([len(scene.things) == 2 for scene in scenes]),
    )


def render(*scenes: Scene) -> Tensor:
    """Render scenes: [n, 3, 64, 64] in [0, 1]."""
    return stack(scenes).pictures()


def held_out(colour: Tensor, shape: Tensor, background: Tensor) -> Tensor:
    """Tell which triples of numbers no model is trained on: a fifth of them, each pair among others that are."""
    return (3 * colour + 2 * shape + background) % 5 == 0


def sample(n: int, generator: torch.Generator, *, held: bool | None = False, two: bool | None = None) -> Scenes:
    """Draw n scenes at random, on the generator's device; with two things in half of them, or in all or none (`two`).

    With `held` false none of their things is a held-out triple with the background, with true all are; None is either.
    """
    if n < 1:
        raise ValueError(f"at least one scene is needed, got {n}")
    device = generator.device
    pair = torch.rand(n, generator=generator, device=device) < 0.5 if two is None else torch.full((n,), two).to(device)
    drawn = _sample(pair, generator)
    while len(again := (~_allowed(drawn, held)).nonzero()[:, 0]):
        redrawn = _sample(pair[again], generator)
        for field in fields(Scenes):
            getattr(drawn, field.name)[again] = getattr(redrawn, field.name)
    return drawn


def _allowed(drawn: Scenes, held: bool | None) -> Tensor:
    """Tell which scenes can be named by a caption without doubt, and are held out or not as asked."""
    distinct = (drawn.shape[:, 0] != drawn.shape[:, 1]) | (drawn.colour[:, 0] != drawn.colour[:, 1])
    fine = distinct | ~drawn.two
    if held is None:
        return fine
    first, second = held_out(drawn.colour, drawn.shape, drawn.background[:, None]).unbind(1)
    return fine & (first & (second | ~drawn.two) if held else ~first & ~(second & drawn.two))


def _sample(two: Tensor, generator: torch.Generator) -> Scenes:
    n, device = len(two), two.device

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=device)

    def number(below: int, *size: int) -> Tensor:
        return torch.randint(below, size, generator=generator, device=device)

    low, high = (torch.where(two, RADII_OF_TWO[i], RADII_OF_ONE[i])[:, None] for i in (0, 1))
    radius = low + (high - low) * uniform(n, 2)
    margin = radius + 3  # the points of a star lie beyond its radius
    x, y = (margin + (SIZE - 2 * margin) * uniform(n, 2) for _ in range(2))
    # Two things have a half of the picture each, side by side or one above the other, so they never touch.
    halves = torch.tensor([0.0, SIZE / 2], device=device)
    apart = halves + margin + (SIZE / 2 - 2 * margin) * uniform(n, 2)
    beside = uniform(n) < 0.5
    x = torch.where((two & beside)[:, None], apart, x)
    y = torch.where((two & ~beside)[:, None], apart, y)
    return Scenes(number(len(SHAPES), n, 2), number(len(COLOURS), n, 2), radius, x, y, number(len(BACKGROUNDS), n), two)


def _backgrounds(device: torch.device) -> Tensor:
    """Return the eight backgrounds [8, 3, 64, 64] in [0, 1]."""
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    light, dark = torch.tensor(244.0), torch.tensor(200.0)
    textured = {
        "striped": torch.where(row % 8 < 4, light, dark),
        "dotted": torch.where((row % 8 - 3.5) ** 2 + (column % 8 - 3.5) ** 2 < 5, dark - 40, light),
        "chequered": torch.where((row // 8 + column // 8) % 2 == 0, dark - 20, dark - 90),
    }
    drawn = []
    for name in BACKGROUNDS:
        if name in PLAIN:
            drawn.append(torch.tensor(PLAIN[name]).float().reshape(-1, 1, 1).expand(3, SIZE, SIZE))
        else:
            drawn.append(textured[name].expand(3, SIZE, SIZE))
    return torch.stack(drawn).to(device) / 255


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.85


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    """A regular one with its point up: the farthest outside of three edges."""
    slant = x.abs() * math.sqrt(0.75) - (y - 0.2) * 0.5
    return torch.maximum(slant, y - 0.2) - 0.6


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points: fold the plane onto a tenth of it, where one edge is left."""
    turn = math.pi / 5
    angle = torch.atan2(x, -y)
    folded = (torch.remainder(angle, 2 * turn) - turn).abs()  # 0 in a notch, a tenth of a turn at a point
    far = torch.hypot(x, y)
    u, v = far * folded.cos(), far * folded.sin()
    point, notch = (1.1 * math.cos(turn), 1.1 * math.sin(turn)), (0.5, 0.0)
    along = (point[0] - notch[0], point[1] - notch[1])
    return ((u - notch[0]) * along[1] - (v - notch[1]) * along[0]) / math.hypot(*along)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 1, y - 0.33), torch.maximum(x - 0.33, y - 1))


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.75).abs() - 0.27


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
