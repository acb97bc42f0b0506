"""Edits of drawn scenes, to be judged: what is asked, where a picture may change, and whether it was done.

A task changes the colour or the shape of one thing, or the background, to a triple that no model was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lib.scenes.captions import caption
from lib.scenes.draw import BACKGROUNDS, COLOURS, SHAPES, Scene, held_out, sample, stack
from lib.scenes.read import read_scene

KINDS = ("colour", "shape", "background")


class Task(NamedTuple):
    """An edit: its kind, the scene that there is and the one that is wanted, and which of its things changes."""

    kind: str
    source: Scene
    target: Scene
    index: int = 0

    @property
    def prompts(self) -> tuple[str, str]:
        """What is said of the source and of the target."""
        return caption(self.source), caption(self.target)


def sample_tasks(n: int, seed: int, *, two: bool | None = None) -> list[Task]:
    """Draw n edits, each kind in turn, of scenes with one thing or two; the targets are held-out triples."""
    if n < 1:
        raise ValueError(f"at least one edit is needed, got {n}")
    generator = torch.Generator().manual_seed(seed)
    tasks: list[Task] = []
    while len(tasks) < n:
        scene = sample(1, generator, two=two)[0]
        task = _sample_edit(scene, KINDS[len(tasks) % len(KINDS)], generator)
        if task is not None:
            tasks.append(task)
    return tasks


def _sample_edit(scene: Scene, kind: str, generator: torch.Generator) -> Task | None:
    """Change a scene at random so that the changed thing is a held-out triple; None where two would be alike."""
    index = int(torch.randint(len(scene.things), (1,), generator=generator))
    values = {"colour": tuple(COLOURS), "shape": SHAPES, "background": BACKGROUNDS}[kind]
    wanted = [target for value in values if _is_held_out(target := _edited(scene, kind, index, value), index)]
    if not wanted:
        return None
    target = wanted[int(torch.randint(len(wanted), (1,), generator=generator))]
    distinct = {(thing.shape, thing.colour) for thing in target.things}
    return Task(kind, scene, target, index) if len(distinct) == len(target.things) else None


def _edited(scene: Scene, kind: str, index: int, value: str) -> Scene:
    if kind == "background":
        return replace(scene, background=value)
    things = list(scene.things)
    things[index] = replace(things[index], **{kind: value})
    return replace(scene, things=tuple(things))


def _is_held_out(scene: Scene, index: int) -> bool:
    row = stack([scene])
    return bool(held_out(row.colour[0, index], row.shape[0, index], row.background[0]))


def edit_masks(tasks: Sequence[Task]) -> Tensor:
    """Return the masks of where pictures may change, 1 there: [n, 64, 64].

    That is each pixel which the thing covers in part, the old one or the new; and for a background, all that is not
    covered wholly.
    """
    before, after = (stack([getattr(task, side) for task in tasks]).masks() for side in ("source", "target"))
    masks = [
        before[i].sum(0) < 1 if task.kind == "background" else (before[i] + after[i])[task.index] > 0
        for i, task in enumerate(tasks)
    ]
    return torch.stack(masks).float()


def shows(picture: Tensor, scene: Scene) -> bool:
    """Tell whether a picture [3, 64, 64] reads as this scene: background, and of each thing shape and colour."""
    return matches(read_scene(picture), scene)


def matches(found: Scene | None, scene: Scene, *, max_distance: float | None = None) -> bool:
    """Tell whether what was read is this scene; with `max_distance` each centre has to be as near, in pixels."""
    if found is None or found.background != scene.background or len(found.things) != len(scene.things):
        return False
    remaining = list(found.things)
    for thing in scene.things:
        alike = [other for other in remaining if (other.shape, other.colour) == (thing.shape, thing.colour)]
        if max_distance is not None:
            alike = [other for other in alike if max(abs(other.x - thing.x), abs(other.y - thing.y)) <= max_distance]
        if not alike:
            return False
        remaining.remove(alike[0])
    return True


def psnr(pictures: Tensor, wanted: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture [n, 3, h, w] in [0, 1], in dB, at most 100: [n].

    `where` [n, h, w], 0 or 1, tells which pixels count.
    """
    where = torch.ones_like(pictures[:, 0]) if where is None else where
    error = ((pictures - wanted).square().mean(1) * where).sum((1, 2)) / where.sum((1, 2)).clamp(min=1)
    return -10 * error.clamp(min=1e-10).log10()


def iou(mask: Tensor, wanted: Tensor) -> Tensor:
    """Return the intersection over the union of masks [n, h, w], 0 or 1: [n]."""
    mask, wanted = mask > 0.5, wanted > 0.5
    return (mask & wanted).sum((1, 2)) / (mask | wanted).sum((1, 2)).clamp(min=1)
