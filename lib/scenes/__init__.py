"""Drawn pictures with captions, true masks and attributes; what is read from a picture, and edits to be judged."""

from lib.scenes.captions import caption, sample_captions
from lib.scenes.draw import BACKGROUNDS, COLOURS, SHAPES, SIZE, Scene, Scenes, Thing, held_out, render, sample, stack

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "SHAPES",
    "SIZE",
    "Scene",
    "Scenes",
    "Thing",
    "caption",
    "held_out",
    "render",
    "sample",
    "sample_captions",
    "stack",
]
