"""What a scene shows, in words: its colours, shapes and background, in several phrasings."""

from __future__ import annotations

import torch

from lib.scenes.draw import Scene, Scenes, Thing

SMALL, LARGE = 9.0, 13.0  # radii, in pixels, up to which a shape is called small, and from which it is called large
# What a caption may say; the second thing of a pair is to the right of the first, or below it.
ABOUT_ONE = (
    "{a} on a {background} background",
    "{a}",
    "a {background} background with {a}",
    "a picture of {a} on a {background} background",
)
ABOUT_TWO = (
    "{a} and {b} on a {background} background",
    "{b} and {a} on a {background} background",
    "{a} and {b}",
    "{a} {before} {b} on a {background} background",
    "{b} {after} {a} on a {background} background",
    "a {background} background with {a} and {b}",
)


def caption(scene: Scene, phrasing: int = 0, sized: bool = False) -> str:
    """Say what a scene shows, in one of several phrasings; `sized` tells small and large things from the others."""
    first, second = scene.things[0], scene.things[-1]
    beside = abs(second.x - first.x) > abs(second.y - first.y)
    phrasings = ABOUT_ONE if len(scene.things) == 1 else ABOUT_TWO
    return phrasings[phrasing % len(phrasings)].format(
        a=_named(first, sized),
        b=_named(second, sized),
        before="left of" if beside else "above",
        after="right of" if beside else "below",
        background=scene.background,
    )


def _named(thing: Thing, sized: bool) -> str:
    size = "small " if thing.radius <= SMALL else "large " if thing.radius >= LARGE else ""
    words = f"{size if sized else ''}{thing.colour} {thing.shape}"
    return f"{'an' if words.startswith('o') else 'a'} {words}"


def sample_captions(scenes: Scenes, generator: torch.Generator) -> list[str]:
    """Say what each of many scenes shows, in phrasings drawn from a generator on the CPU."""
    phrasing = torch.randint(len(ABOUT_ONE) * len(ABOUT_TWO), (len(scenes),), generator=generator).tolist()
    sized = (torch.rand(len(scenes), generator=generator) < 0.3).tolist()
    return [caption(scenes[i], phrasing[i], sized[i]) for i in range(len(scenes))]
