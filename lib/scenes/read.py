"""What a picture of a scene shows, read from its pixels alone: background, then things, then a drawing to compare with.

The reader knows how scenes are drawn, and nothing of any model or prompt. It renders what it read and compares: a
picture that does not look like that rendering counts as unreadable.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lib.scenes.draw import BACKGROUNDS, COLOURS, SHAPES, SIZE, Scene, Scenes, Thing, render, stack

TOLERANCE = 0.14  # how far a channel may be from what is rendered, of 1
MAX_COVERED = 0.5  # of the picture that things may cover
MIN_PIXELS = 40  # pixels of a thing
MAX_MISFIT = 0.3  # how much of a thing's area may differ from its shape
MAX_DIFFERENT = 0.04  # of the picture that may differ from the drawing


def read_scene(picture: Tensor) -> Scene | None:
    """Read a picture [3, 64, 64] in [0, 1]; None where it is not one of one or two things on a known background.

    Raises ValueError for another shape, or values that are not finite.
    """
    if picture.shape != (3, SIZE, SIZE):
        raise ValueError(f"a picture is [3, {SIZE}, {SIZE}], got {list(picture.shape)}")
    if not bool(picture.isfinite().all()):
        raise ValueError("a picture must be finite, got NaN or infinity")
    picture = picture.detach().float().cpu()
    distance = (picture - _backgrounds()).abs().amax(dim=1)  # [8, 64, 64]
    background = int((distance < TOLERANCE).sum(dim=(1, 2)).argmax())
    different = (distance[background] >= TOLERANCE).numpy()
    if different.mean() > MAX_COVERED:
        return None
    parts, count = ndimage.label(ndimage.binary_opening(different), np.ones((3, 3)))
    sizes = ndimage.sum_labels(parts > 0, parts, range(1, count + 1)) if count else np.zeros(0)
    chosen = [k + 1 for k in range(count) if sizes[k] >= MIN_PIXELS]
    if not 1 <= len(chosen) <= 2:
        return None
    things = [_read_thing(picture, _backgrounds()[background], parts == k) for k in chosen]
    if any(thing is None for thing in things):
        return None
    scene = Scene(tuple(sorted(things, key=lambda thing: thing.x + thing.y)), BACKGROUNDS[background])
    rendered = render(scene)[0]
    return scene if ((rendered - picture).abs().amax(0) > 2 * TOLERANCE).float().mean() < MAX_DIFFERENT else None


def _read_thing(picture: Tensor, background: Tensor, part: np.ndarray) -> Thing | None:
    """Read one thing: its colour in its core, then the shape, place and size whose mask is nearest to its own."""
    core = ndimage.binary_erosion(part, iterations=2)
    core = core if core.sum() >= 12 else ndimage.binary_erosion(part)
    inside = picture[:, torch.from_numpy(core)]
    if not inside.numel():
        return None
    colours = torch.tensor(list(COLOURS.values())) / 255
    number = int((colours - inside.median(dim=1).values).square().sum(1).argmin())
    if ((inside - colours[number][:, None]).abs().amax(0) > 1.5 * TOLERANCE).float().mean() > 0.2:
        return None
    covered = _coverage(
        picture, background, colours[number], torch.from_numpy(ndimage.binary_dilation(part, iterations=3))
    )
    fits = [_fit(covered, shape) for shape in range(len(SHAPES))]
    misfit, shape = min((fit[0], k) for k, fit in enumerate(fits))
    if misfit > MAX_MISFIT:
        return None
    _, x, y, radius = fits[shape]
    return Thing(SHAPES[shape], list(COLOURS)[number], radius, x, y)


def _coverage(picture: Tensor, background: Tensor, paint: Tensor, near: Tensor) -> Tensor:
    """Return how much of each pixel is paint rather than background, 0 away from the thing: [64, 64]."""
    direction = paint[:, None, None] - background
    share = ((picture - background) * direction).sum(0) / direction.square().sum(0).clamp(min=1e-3)
    return share.clamp(0, 1) * near


def _fit(covered: Tensor, shape: int) -> tuple[float, float, float, float]:
    """Return how much a mask differs from a shape at the best place and radius: by its moments, then in small steps."""
    area, dx, dy = _moments()[shape]
    centre = torch.arange(SIZE) + 0.5
    total = covered.sum()
    radius = float((total / area).sqrt().clamp(3, SIZE / 2))
    x = float(covered.sum(0) @ centre / total) - dx * radius
    y = float(covered.sum(1) @ centre / total) - dy * radius
    best = (float("inf"), x, y, radius)
    for step in (1.0, 0.5):
        _, x, y, radius = best
        moves = [
            (x + i * step, y + j * step, radius + k * step) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)
        ]
        misfits = (_masks(shape, moves) - covered).abs().sum((1, 2)) / total
        best_move = int(misfits.argmin())
        if misfits[best_move] < best[0]:
            best = (float(misfits[best_move]), *moves[best_move])
    misfit, x, y, radius = best
    return misfit, min(max(x, 0.0), SIZE), min(max(y, 0.0), SIZE), min(max(radius, 3.0), SIZE / 2)


def _masks(shape: int, places: list[tuple[float, float, float]]) -> Tensor:
    """Return the masks of one shape at places (x, y, radius): [n, 64, 64]."""
    x, y, radius = (torch.tensor(column)[:, None].expand(-1, 2) for column in zip(*places, strict=True))
    none = torch.zeros(len(places), dtype=torch.long)
    chosen = torch.full((len(places), 2), shape)
    return Scenes(chosen, chosen, radius, x, y, none, none.bool()).masks()[:, 0]


@cache
def _moments() -> list[tuple[float, float, float]]:
    """Return of each shape of radius 1 its area, and where its centre of mass is."""
    radius, centre = 20.0, torch.arange(SIZE) + 0.5
    masks = stack([Scene((Thing(shape, "red", radius),)) for shape in SHAPES]).masks()[:, 0]
    found = []
    for mask in masks:
        total = mask.sum()
        x, y = float(mask.sum(0) @ centre / total), float(mask.sum(1) @ centre / total)
        found.append((float(total) / radius**2, (x - SIZE / 2) / radius, (y - SIZE / 2) / radius))
    return found


@cache
def _backgrounds() -> Tensor:
    """Return the backgrounds, nothing on them: [8, 3, 64, 64]."""
    number = torch.arange(len(BACKGROUNDS))
    none = torch.zeros(len(number), 2, dtype=torch.long)
    # A thing far outside of the picture leaves the background alone.
    away = torch.full((len(number), 2), -1e3)
    return Scenes(
        none, none, torch.ones_like(away), away, away, number, torch.zeros(len(number), dtype=torch.bool)
    ).pictures()
