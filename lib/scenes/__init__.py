"""Drawn pictures with captions, true masks and attributes; what is read from a picture, and edits to be judged."""

from lib.scenes.captions import caption, captions
from lib.scenes.draw import BACKGROUNDS, COLOURS, SHAPES, SIZE, Scene, Scenes, Thing, draw, held_out, of, sample

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "SHAPES",
    "SIZE",
    "Scene",
    "Scenes",
    "Thing",
    "caption",
    "captions",
    "draw",
    "held_out",
    "of",
    "sample",
]
